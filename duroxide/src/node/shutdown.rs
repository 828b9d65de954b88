//! Shutdown: the node accepts no new work, running activities finish, their outcomes are stored, and the node leaves.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Node;

impl Node {
    /// The time limit of the request to leave.
    const LEAVE: Duration = Duration::from_secs(5);

    pub(super) fn begin_shutdown(&mut self, done: oneshot::Sender<()>) {
        if self.draining.is_none() {
            self.time.set_drain_deadline(self.shared.options.drain);
        }
        self.draining.get_or_insert_default().done.push(done);
    }

    /// Returns true if a shutdown has nothing left to wait for, or its deadline has passed.
    pub(super) fn is_drained(&self) -> bool {
        let nothing_left = self.activities.running() == 0
            && self.requests.is_empty()
            && self.outbox.is_empty()
            && self.turns.under_way() == 0;
        self.draining.as_ref().is_some_and(|draining| nothing_left || draining.deadline_has_passed)
    }

    /// Drops unfinished work: activities, which are run again; turns that do not return; requests without an answer.
    pub(super) fn drain_deadline_passed(&mut self) {
        if let Some(draining) = &mut self.draining {
            draining.deadline_has_passed = true;
        }
        if self.activities.running() > 0 {
            tracing::warn!(
                activities = self.activities.running(),
                "activities have not finished in time; they will be run again"
            );
            self.activities.clear();
            self.attempts.abort_all();
        }
    }

    pub(super) async fn leave(mut self) {
        self.membership.stop_heartbeat();
        self.live.drop_copies();
        // The storage carries out a pending request as a whole or not at all.
        self.requests.clear();
        let failed = match tokio::time::timeout(Self::LEAVE, self.shared.provider.leave(&self.membership.lease)).await {
            Ok(left) => left.err().map(|error| error.to_string()),
            Err(_) => Some("the storage does not answer".to_owned()),
        };
        if let Some(error) = failed {
            tracing::warn!(error, "leaving failed; other nodes take over once they detect that this node is gone");
        }
        for done in self.draining.take().into_iter().flat_map(|draining| draining.done) {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }
}
