//! The runtime: [`Runtime::builder`] configures it, `start` joins it to the provider, and it runs functions until it is
//! shut down.
//!
//! A program needs it to run functions, and the options to adapt it to its load. The page [Design of the runtime] shows
//! its threads and its node, which is the engine.
//!
//! [Design of the runtime]: https://github.com/duroxide/duroxide/blob/main/docs/dtf-runtime-design.md#threads

mod builder;
mod retention;
mod shutdown_error;
mod start_error;

use futures_util::future::BoxFuture;

pub use builder::RuntimeBuilder;
pub use retention::Retention;
pub use shutdown_error::ShutdownError;
pub use start_error::StartError;

use crate::client::Client;
use crate::node::RunningNode;
pub use crate::node::RuntimeOptions;
pub use crate::policy::Limits;

/// A running node: it executes orchestrations and activities until it is shut down.
///
/// If it is dropped without [`shutdown`](Runtime::shutdown), it stops at once: nothing is lost, but running activities
/// are run again, here or on another node.
///
/// ```standalone_crate
/// use duroxide::prelude::*;
///
/// #[orchestration]
/// async fn hello(ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
///     Ok(format!("hello, {name}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> duroxide::Result<()> {
/// let runtime = Runtime::builder().in_memory().start().await?;
/// let handle = hello::start(&runtime.client(), "first", "world".to_owned()).await?;
/// assert_eq!(handle.result().await?, "hello, world");
/// runtime.shutdown().await?;
/// Ok(())
/// # }
/// ```
pub struct Runtime {
    client: Client,
    node: RunningNode,
    /// Stops with the runtime.
    removals: Option<retention::Removals>,
}

impl Runtime {
    /// Configures a runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Returns a client of this runtime's provider. Its starts and messages are forwarded to the node in memory.
    ///
    /// Once the runtime has stopped, the client still reads. Starting, raising and cancelling are refused, and a wait
    /// for an instance that has not finished ends, all with
    /// [`ErrorCode::RuntimeStopped`](crate::error::ErrorCode::RuntimeStopped). Use [`Client::new`] for requests that another
    /// process carries out.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns true if the node has ended. A node that was neither shut down nor dropped has panicked.
    #[cfg(feature = "testing")]
    pub(crate) fn has_ended(&self) -> bool {
        self.node.has_ended()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn epoch(&self) -> Option<crate::id::Epoch> {
        self.client.epoch()
    }

    /// Stops accepting new work, lets running activities finish until the drain deadline of the options, stores their
    /// outcomes, and leaves. Unfinished work is then free for other nodes, or for the next start.
    ///
    /// # Errors
    /// [`ShutdownError`]: the node had died before, because of a bug in this library, in a provider or in a clock.
    ///
    /// # Cancel safety
    /// If the future is dropped, the shutdown continues as long as the tokio runtime lives.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        self.shut_down().await
    }

    /// Boxed, as [`RuntimeBuilder::start`] is.
    fn shut_down(self) -> BoxFuture<'static, Result<(), ShutdownError>> {
        drop(self.removals);
        Box::pin(async move { Ok(self.node.shutdown().await?) })
    }
}
