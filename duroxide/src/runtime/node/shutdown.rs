//! Ending: no new work, running activities finish, everything is stored, the lease is given back.

use tokio::sync::oneshot;

use super::{Draining, Node};
use crate::runtime::slot::SlotState;

impl Node {
    pub(super) fn begin_shutdown(&mut self, done: oneshot::Sender<()>) {
        let deadline = Some(tokio::time::Instant::now() + self.shared.options.drain);
        self.draining.get_or_insert_with(|| Draining { done: Vec::new(), deadline }).done.push(done);
    }

    /// Whether a shutdown has nothing left to wait for.
    pub(super) fn is_drained(&self) -> bool {
        let stuck = self.turns > 0;
        self.draining.is_some()
            && self.running.is_empty()
            && self.asked.is_empty()
            && self.outgoing.is_empty()
            && !stuck
    }

    /// Activities that have not finished are dropped; they are run again elsewhere.
    pub(super) fn drain_deadline_passed(&mut self) {
        if let Some(draining) = &mut self.draining {
            draining.deadline = None;
        }
        if !self.running.is_empty() {
            tracing::warn!(activities = self.running.len(), "not finished in time; they will be run again");
            self.running.clear();
            self.attempts.abort_all();
        }
        // A turn that does not return cannot be waited for either.
        self.turns = 0;
    }

    pub(super) async fn leave(mut self) {
        self.heartbeat.stop();
        for slot in self.slots.values_mut() {
            slot.state = SlotState::Cold;
        }
        if let Err(error) = self.shared.provider.leave(&self.lease).await {
            tracing::warn!(%error, "leaving failed; other nodes take over once this one is seen to be gone");
        }
        for done in self.draining.take().into_iter().flat_map(|draining| draining.done) {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}
