//! The error of a shutdown.

use tokio::task::JoinError;

/// The node had died before it was shut down, because of a bug in this library, in a provider or in a clock.
///
/// Nothing is lost: other nodes, or the next start, take over its work. The source says how it died.
#[derive(Debug, thiserror::Error)]
#[error("the node died before it was shut down; other nodes, or the next start, take over its work")]
pub struct ShutdownError(#[from] JoinError);
