//! Loads of stored instances: while one page of the history is read, the page before it is replayed.
//!
//! ```text
//! read page 1 │ read page 2   │ read page 3   │
//!             │ replay page 1 │ replay page 2 │ turn: replay page 3, deliver
//! ```
//!
//! If the instance is dropped during the load, the load continues and its result is discarded.

use std::sync::Arc;

use futures_util::future::join;
use tokio::sync::oneshot;

use super::command::Command;
use super::{Answer, Node, Shared};
use crate::backoff::Backoff;
use crate::id::{EventId, ExecutionId, InstanceId};
use crate::node::live::Stopped;
use crate::node::pool::Pool;
use crate::node::turn::{Loaded, ReplayJob};
use crate::provider::HistoryPage;
use crate::replay::{Execution, Fault, Function, Replay};

impl Node {
    /// Reads the rest of the history of an instance whose first page has arrived.
    pub(super) fn read_history(&mut self, instance: &InstanceId, first: HistoryPage) {
        let Some(live) = self.live.get(instance) else { return };
        let Some(entry) = self.shared.lookup.orchestration(&live.name, live.version.as_ref()) else {
            return self.release(instance);
        };
        let (generation, function) = (live.generation, entry.function.clone());
        let replay = Replay::new(self.shared.new_execution(live.execution.clone(), generation, function));
        let loading = Loading { shared: self.shared.clone(), pool: self.pool.clone(), name: live.name.clone() };
        let instance = instance.clone();
        self.turns.read_begins();
        self.ask(async move { Answer::History(instance, generation, loading.run(replay, first).await) });
    }

    /// Handles a history that was read: the next turn replays the rest of it.
    pub(super) fn history_was_read(&mut self, instance: &InstanceId, generation: u64, loaded: Result<Loaded, Fault>) {
        self.turns.read_has_ended();
        let Some(live) = self.live.current(instance, generation) else { return };
        live.begin_turn();
        match loaded {
            Ok(loaded) => {
                // The history may have been read later than the instance.
                live.committed = loaded.rest.last().map_or(live.committed, |last| last.id);
                let deliveries = live.take_inbox(self.now);
                self.make_turn(instance, Some(loaded), deliveries);
            }
            Err(fault) => {
                let (execution, committed) = (live.execution.clone(), live.committed);
                self.suspend(Stopped { execution, committed, generation, fault });
            }
        }
    }
}

impl Shared {
    /// Makes a live copy without history.
    pub(super) fn new_execution(&self, id: ExecutionId, generation: u64, function: Arc<Function>) -> Box<Execution> {
        let (commands, instance) = (self.commands.downgrade(), id.instance.clone());
        let on_stray = move || {
            if let Some(commands) = commands.upgrade() {
                // If the node has ended, so has the live copy.
                let _ = commands.send(Command::Stray(instance.clone(), generation));
            }
        };
        Box::new(Execution::new(id, function, on_stray))
    }
}

/// The parts of the node that a load needs.
struct Loading {
    shared: Arc<Shared>,
    pool: Pool,
    name: String,
}

impl Loading {
    /// Reads a history after its first page, and replays all pages except the last.
    async fn run(self, replay: Replay, first: HistoryPage) -> Result<Loaded, Fault> {
        let execution = replay.execution().id().clone();
        let mut page = match first {
            HistoryPage { events, more: true } if events.is_empty() => self.read(&execution, EventId(0)).await,
            first => first,
        };
        let mut loaded = Loaded { replay, rest: page.events };
        let mut last = EventId(0);
        while page.more {
            last = loaded.rest.last().map_or(last, |event| event.id);
            let replayed;
            (page, replayed) = join(self.read(&execution, last), self.replay(loaded)).await;
            loaded = replayed?;
            loaded.rest = page.events;
        }
        Ok(loaded)
    }

    /// Reads a page, and repeats the request until there is an answer.
    async fn read(&self, execution: &ExecutionId, after: EventId) -> HistoryPage {
        let mut backoff = Backoff::default();
        loop {
            match self.shared.provider.history(execution, after).await {
                Ok(page) => return page,
                Err(error) => {
                    let instance = &execution.instance;
                    tracing::warn!(%error, %instance, "the history cannot be read; retrying");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Replays a page on a thread of the pool.
    async fn replay(&self, loaded: Loaded) -> Result<Loaded, Fault> {
        let (replayed, answer) = oneshot::channel();
        self.pool.replay(ReplayJob { name: self.name.as_str().into(), loaded, replayed });
        match answer.await {
            Ok(replayed) => replayed,
            // The pool was stopped, and the node ends with it.
            Err(_) => std::future::pending().await,
        }
    }
}
