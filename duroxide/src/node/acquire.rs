//! Sends the requests for work, and takes the items of their answers.

use tracing::Instrument;

use super::log;
use super::work::Capacity;
use super::{Answer, Node, Shared};
use crate::backoff::Backoff;
use crate::clock::Timestamp;
use crate::id::EventId;
use crate::provider::{Acquired, AcquiredInstance, Lease, Want};
use crate::telemetry::{self, names, spans};

impl Node {
    pub(super) fn acquire_if_wanted(&mut self) {
        if self.activities.permits_were_released() {
            self.work.permit_is_free();
        }
        let capacity = self.capacity();
        if !self.work.is_due(&capacity, |instance| self.live.has_gap(instance)) || self.membership.is_rejoining() {
            return;
        }
        let (number, now) = (self.lost.next_request(), self.now);
        let want = self.work.begin(number, &capacity, now, |instance| self.live.heard(instance));
        let (shared, lease) = (self.shared.clone(), self.membership.lease);
        let span = spans::acquire(&self.shared.info.id);
        self.ask(async move { acquire(&shared, &lease, want).await }.instrument(span));
    }

    pub(super) fn capacity(&self) -> Capacity {
        Capacity {
            turns: self.turns.expected() + self.live.ready(),
            permits: self.activities.free_permits(),
            is_draining: self.draining.is_some(),
        }
    }

    /// Counts an instance with a history that this node has claimed.
    fn count_takeover(&self, instance: &AcquiredInstance) {
        if instance.last_event > EventId(0) {
            telemetry::counter(names::ORCHESTRATION_TAKEOVERS, &[("name", &instance.name)]).increment(1);
        }
    }

    /// Handles the answer to a request that was sent at `sent`.
    pub(super) fn acquired(&mut self, lease: Lease, sent: Timestamp, acquired: Acquired) {
        if !self.membership.holds(&lease) {
            // The items of a lost lease belong to other nodes.
            return;
        }
        let answered = self.work.end(&acquired, sent, self.now);
        for instance in acquired.instances {
            let id = &instance.execution.instance;
            if self.work.accept(&answered, &instance, self.live.contains(id)) {
                if answered.claims(&instance) {
                    log::claimed(&instance);
                    self.count_takeover(&instance);
                }
                self.settle_loaded(&instance.execution, instance.last_event, answered.number);
                self.take_instance(instance);
            }
        }
        for instance in answered.requested() {
            if !self.work.will_load(instance) && !self.live.contains(instance) {
                self.read_unconfirmed(instance);
            }
        }
        self.end_unowned(acquired.ending);
        acquired.cancelled.iter().for_each(|id| self.activities.cancel(id));
        self.work.acknowledge(acquired.cancelled);
        for activity in acquired.activities {
            self.take_activity(activity);
        }
    }
}

/// Requests work until there is an answer: a failure of the storage only delays it.
async fn acquire(shared: &Shared, lease: &Lease, want: Want) -> Answer {
    let mut backoff = Backoff::default();
    loop {
        match shared.provider.acquire(lease, want.clone()).await {
            Ok(acquired) => return Answer::Acquired(*lease, want.now, acquired),
            Err(error) => {
                tracing::warn!(%error, attempts = backoff.attempts(), "acquiring failed; retrying");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}
