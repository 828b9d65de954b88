//! The runtime: a node that executes what is registered, on a provider.
//!
//! [`Runtime::builder`] configures it and `start` joins it to the provider. From then on the [`node`] decides everything:
//! which instances are live here, which turns and activities run, what is committed. A small [`pool`] of threads drives it
//! and makes its turns. Activities run on the user's tokio runtime, except for the first step of some, and blocking ones on
//! a pool of their own.

mod activities;
mod backoff;
mod blocking;
mod builder;
mod heartbeat;
mod node;
mod options;
mod places;
mod pool;
mod slot;
mod start_error;
mod stop_signal;
mod turn;
mod turn_commit;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) use backoff::Backoff;
pub use builder::RuntimeBuilder;
pub(crate) use node::NodeHandle;
pub use options::RuntimeOptions;
pub use start_error::StartError;
pub(crate) use stop_signal::StopSignal;
pub(crate) use turn_commit::{new_instance, termination};

use crate::client::Client;
use heartbeat::Heartbeat;
use node::Note;
use pool::Pool;

/// A running node: it executes orchestrations and activities until it is shut down.
///
/// Dropped without [`shutdown`](Runtime::shutdown), it stops at once: nothing is lost, but activities that were running are
/// run again, here or elsewhere.
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
/// runtime.shutdown().await
/// # }
/// ```
pub struct Runtime {
    client: Client,
    notes: mpsc::UnboundedSender<Note>,
    pool: Pool,
    task: JoinHandle<()>,
    /// Whether the node ends by itself.
    ending: bool,
    heartbeat: Arc<Heartbeat>,
    heart_ended: oneshot::Receiver<()>,
    stopped: StopSignal,
}

impl Runtime {
    /// Configures a runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// A client that works on this runtime's provider. What it starts is handed over without a detour.
    ///
    /// Once the runtime has stopped, the client still reads, but refuses to start, raise or cancel anything, and a wait for an
    /// instance that has not finished ends: all with [`ErrorCode::RuntimeStopped`](crate::ErrorCode::RuntimeStopped). Use
    /// [`Client::new`] for requests that another process carries out.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether the node has ended. One that was neither shut down nor dropped has panicked.
    #[cfg(feature = "testing")]
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn epoch(&self) -> Option<crate::id::Epoch> {
        self.client.epoch()
    }

    /// Takes on no new work, lets running activities finish until the drain deadline of the options, stores their outcomes,
    /// and leaves. What is unfinished then is free for other nodes, or for the next start.
    ///
    /// # Errors
    /// When the node had died before, of a bug in this library, in a provider or in a clock.
    ///
    /// # Cancel safety
    /// Dropping the future lets the shutdown go on by itself as long as the tokio runtime lives.
    pub async fn shutdown(self) -> crate::error::Result<()> {
        self.shut_down().await
    }

    /// Boxed, as [`RuntimeBuilder::start`] is.
    fn shut_down(mut self) -> BoxFuture<'static, crate::error::Result<()>> {
        Box::pin(async move {
            let (done, finished) = oneshot::channel();
            self.ending = true;
            if self.notes.send(Note::Shutdown(done)).is_ok() {
                // An error means that the node is gone already, which is what was asked for.
                let _ = finished.await;
            }
            let ended = (&mut self.task).await;
            // Also when the node has ended in another way; and then nothing holds the storage any more.
            self.heartbeat.stop();
            let _ = (&mut self.heart_ended).await;
            ended.map_err(|error| crate::error::Error::from(error).context("the node died before it was shut down"))
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.ending {
            // At once: the task of the node is dropped later.
            self.stopped.set();
            self.pool.stop();
            self.task.abort();
        }
    }
}
