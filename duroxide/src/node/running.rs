//! A node in operation: its future, its threads and its heartbeat, from the join to the end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

use super::activities::AttemptEnv;
use super::command::Command;
use super::heartbeat::Heartbeat;
use super::membership::Membership;
use super::pool::Pool;
use super::report::{Load, Reporter};
use super::stop_signal::{SetOnDrop, StopSignal};
use super::{Node, NodeHandle, RuntimeOptions, Shared};
use crate::activity::States;
use crate::clock::Clock;
use crate::provider::{ActivityTransactions, NodeInfo, Provider, ProviderError};
use crate::registry::Lookup;

/// The parts of a node that is to be started.
pub(crate) struct NodeConfig {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lookup: Arc<Lookup>,
    pub(crate) states: States,
    pub(crate) options: RuntimeOptions,
    pub(crate) info: NodeInfo,
    /// If it is set, turns and the heartbeat run in the task of the node, without threads.
    pub(crate) inline: Option<Arc<dyn Inline>>,
}

/// Drives a node that runs without threads.
pub(crate) trait Inline: Send + Sync {
    /// Called before each poll of the node.
    fn polled(&self);

    /// Returns a number that grows with each event, apart from renewals of leases. The heartbeat rests while there are
    /// none.
    fn events(&self) -> u64;

    /// Waits until the number of events is greater.
    fn next_event(&self, seen: u64) -> BoxFuture<'_, ()>;
}

/// The reason why a node did not start.
pub(crate) enum NodeStartError {
    Provider(ProviderError),
    /// A thread cannot be started.
    Thread(std::io::Error),
}

/// A node in operation. If it is dropped without [`shutdown`](Self::shutdown), it stops at once.
pub(crate) struct RunningNode {
    handle: NodeHandle,
    commands: mpsc::UnboundedSender<Command>,
    pool: Pool,
    task: JoinHandle<()>,
    /// True if a shutdown was requested: then the drop does not stop the node.
    ending: bool,
    heartbeat: Arc<Heartbeat>,
    heartbeat_stopped: oneshot::Receiver<()>,
}

impl RunningNode {
    /// Joins the provider, and starts the heartbeat and the node.
    ///
    /// # Errors
    /// The provider refuses the join, or a thread cannot be started.
    pub(crate) async fn start(config: NodeConfig) -> Result<Self, NodeStartError> {
        let NodeConfig { provider, clock, lookup, states, mut options, info, inline } = config;
        if inline.is_some() {
            // A simulation has no threads.
            options.activity_warning = std::time::Duration::MAX;
        }
        let lease = provider.join(&info).await.map_err(NodeStartError::Provider)?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let stopped = StopSignal::new();
        let handle = NodeHandle::new(&commands, lookup.clone(), clock.clone(), lease, stopped.clone());
        let pool = Pool::new(if inline.is_some() { 0 } else { options.turn_threads.max(1) });
        let transactions = ActivityTransactions(provider.clone());
        let env = AttemptEnv::new(states, transactions, clock.clone(), info.id, &options);
        let load = Arc::<Load>::default();
        let reporter = Reporter { load: load.clone(), pool: pool.clone(), polls: env.polls() };
        let (lease_time, to_node) = (options.lease_time, commands.clone());
        let beating = provider.clone();
        let heartbeat = match &inline {
            None => Heartbeat::start(beating, lease, lease_time, to_node, reporter),
            Some(inline) => Ok(Heartbeat::start_inline(beating, lease, lease_time, to_node, reporter, inline.clone())),
        };
        let (heartbeat, heartbeat_stopped) = match heartbeat {
            Ok(started) => started,
            Err(error) => {
                // Without a heartbeat, only the end of the process would show that the node is dead.
                provider.leave(&lease).await.map_err(NodeStartError::Provider)?;
                return Err(NodeStartError::Thread(error));
            }
        };
        let heartbeat = Arc::new(heartbeat);
        let tags = info.handlers.tags.clone().map(Into::into);
        let leaving = provider.clone();
        let shared = Shared { provider, clock, lookup, options, tags, info, commands: commands.clone(), load };
        let membership = Membership::new(lease, handle.clone(), heartbeat.clone());
        let node = Node::new(Arc::new(shared), env, pool.clone(), membership, inbox);
        let task = match inline {
            None => driven(node, pool.clone(), stopped.set_on_drop()),
            Some(inline) => Ok(tokio::spawn(watched(node.run(), inline, stopped.set_on_drop()))),
        };
        let task = match task {
            Ok(task) => task,
            Err(error) => {
                heartbeat.stop();
                // An error means that the thread has ended.
                let _ = heartbeat_stopped.await;
                leaving.leave(&lease).await.map_err(NodeStartError::Provider)?;
                return Err(NodeStartError::Thread(error));
            }
        };
        Ok(Self { handle, commands, pool, task, ending: false, heartbeat, heartbeat_stopped })
    }

    /// Returns the handle for clients of this process.
    pub(crate) fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Returns true if the node has ended.
    #[cfg(feature = "testing")]
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops the node after its running activities, and waits for its end.
    ///
    /// # Errors
    /// The node had panicked before.
    ///
    /// # Cancel safety
    /// If the future is dropped, the shutdown continues as long as the tokio runtime lives.
    pub(crate) async fn shutdown(mut self) -> Result<(), JoinError> {
        let (done, finished) = oneshot::channel();
        self.ending = true;
        if self.commands.send(Command::Shutdown(done)).is_ok() {
            // An error means that the node has ended already.
            let _ = finished.await;
        }
        let ended = (&mut self.task).await;
        // The heartbeat must stop however the node has ended; then nothing keeps the storage open.
        self.heartbeat.stop();
        let _ = (&mut self.heartbeat_stopped).await;
        ended
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        if !self.ending {
            // At once, since the task of the node is dropped later.
            self.handle.stop_signal().set();
            self.pool.stop();
            self.task.abort();
        }
    }
}

/// Drives a node on the pool. The task, on the user's tokio runtime, ends with the node, and the node with the task.
fn driven(node: Node, pool: Pool, stopped: SetOnDrop) -> std::io::Result<JoinHandle<()>> {
    let (ended, end) = oneshot::channel();
    let run = async move {
        // The receiver is dropped if the task was aborted.
        let _ = ended.send(AssertUnwindSafe(node.run()).catch_unwind().await);
    };
    pool.drive(run)?;
    let stop = StopOnDrop(pool);
    Ok(tokio::spawn(async move {
        let (_stop, _stopped) = (stop, stopped);
        if let Ok(Err(panic)) = end.await {
            std::panic::resume_unwind(panic);
        }
    }))
}

struct StopOnDrop(Pool);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

async fn watched(run: impl Future<Output = ()>, inline: Arc<dyn Inline>, _stopped: SetOnDrop) {
    let mut run = std::pin::pin!(run);
    std::future::poll_fn(|context| {
        inline.polled();
        run.as_mut().poll(context)
    })
    .await;
}
