//! The runtime: a node that runs the registered code on a provider.
//!
//! [`Runtime::builder`] configures it, and `start` joins it to the provider. From then on the [`node`] makes all
//! decisions: the instances that are live here, the turns and activities that run, and the commits. A small [`pool`] of
//! threads drives the node and runs its turns. Activities run on the user's tokio runtime, except for the first step of
//! some; blocking activities run on a pool of their own.

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
/// runtime.shutdown().await
/// # }
/// ```
pub struct Runtime {
    client: Client,
    notes: mpsc::UnboundedSender<Note>,
    pool: Pool,
    task: JoinHandle<()>,
    /// True if a shutdown was requested: then dropping the runtime does not stop the node.
    ending: bool,
    heartbeat: Arc<Heartbeat>,
    heartbeat_stopped: oneshot::Receiver<()>,
    stopped: StopSignal,
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
    /// [`ErrorCode::RuntimeStopped`](crate::ErrorCode::RuntimeStopped). Use [`Client::new`] for requests that another
    /// process carries out.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns true if the node has ended. A node that was neither shut down nor dropped has panicked.
    #[cfg(feature = "testing")]
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn epoch(&self) -> Option<crate::id::Epoch> {
        self.client.epoch()
    }

    /// Stops accepting new work, lets running activities finish until the drain deadline of the options, stores their
    /// outcomes, and leaves. Unfinished work is then free for other nodes, or for the next start.
    ///
    /// # Errors
    /// The node had died before, because of a bug in this library, in a provider or in a clock.
    ///
    /// # Cancel safety
    /// If the future is dropped, the shutdown continues as long as the tokio runtime lives.
    pub async fn shutdown(self) -> crate::error::Result<()> {
        self.shut_down().await
    }

    /// Boxed, as [`RuntimeBuilder::start`] is.
    fn shut_down(mut self) -> BoxFuture<'static, crate::error::Result<()>> {
        Box::pin(async move {
            let (done, finished) = oneshot::channel();
            self.ending = true;
            if self.notes.send(Note::Shutdown(done)).is_ok() {
                // An error means that the node has ended already.
                let _ = finished.await;
            }
            let ended = (&mut self.task).await;
            // The heartbeat must stop however the node has ended; then nothing keeps the storage open.
            self.heartbeat.stop();
            let _ = (&mut self.heartbeat_stopped).await;
            ended.map_err(|error| crate::error::Error::from(error).context("the node died before it was shut down"))
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.ending {
            // At once, since the task of the node is dropped later.
            self.stopped.set();
            self.pool.stop();
            self.task.abort();
        }
    }
}
