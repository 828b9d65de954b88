//! Brings starts, messages, outcomes and timers to the live instances, and carries out what follows.

use super::Node;
use super::balance::Balance;
use super::command::PendingStart;
use super::delivery::{Delivery, LocalOutcome};
use super::live::{FollowUp, Stopped};
use super::outbox::Context;
use crate::error::ErrorCode;
use crate::id::{Identity, InstanceId};
use crate::message::Lane;
use crate::provider::{AcquiredInstance, MessageRow, NewInstance, Submitted, Write};
use crate::replay::Fault;

impl Node {
    /// Carries out the work that follows from a change of the live instances.
    pub(super) fn follow_up(&mut self, follow_up: FollowUp) {
        match follow_up {
            FollowUp::Nothing => {}
            FollowUp::Load(instance, deliveries) => {
                self.store_outcomes(deliveries);
                self.work.load(instance);
            }
            FollowUp::FillGap(instance) => self.work.fill_gap(instance),
            FollowUp::StoreOutcomes(deliveries) => self.store_outcomes(deliveries),
            FollowUp::ReadHistory(instance, first) => self.read_history(&instance, first),
            FollowUp::Suspend(stopped) => self.suspend(stopped),
        }
    }

    /// Starts an instance eagerly: its first turn is run at once, and the commit of this turn creates it. A client that
    /// stores the start first needs two commits; this way needs one.
    ///
    /// A [`PendingStart`] that is dropped without an answer makes its client store the start. This happens if the node
    /// accepts no work or the id is live here, if the first turn takes long or finds a fault, and if its commit fails,
    /// which is not repeated. Both ways name the same start message, so they create the instance once.
    pub(super) fn start(&mut self, start: PendingStart) {
        if self.accepts_work() {
            self.live.start(start, self.now);
        }
    }

    /// Makes an instance live that was created for this node.
    pub(super) fn create(&mut self, new: NewInstance, number: Option<u64>) {
        if self.membership.is_rejoining() {
            return;
        }
        let follow_up = self.live.create(new, number, self.now);
        self.follow_up(follow_up);
    }

    /// Takes an instance that the provider has returned.
    pub(super) fn take_instance(&mut self, acquired: AcquiredInstance) {
        if acquired.suspect {
            let message = "the process died each time this instance ran, the last time while it ran alone";
            let fault = Fault::new(ErrorCode::CrashLoop, message);
            let (execution, committed) = (acquired.execution, acquired.last_event);
            return self.suspend(Stopped { execution, committed, generation: 0, fault });
        }
        let instance = acquired.execution.instance.clone();
        let request = acquired.messages.iter().find(|message| message.lane == Lane::End).cloned();
        let follow_up = self.live.acquired(acquired, self.now);
        self.follow_up(follow_up);
        self.end_busy(&instance, request.as_ref());
    }

    /// Delivers the timers that are due. Requests work if the provider has work that is due.
    pub(super) fn fire_timers(&mut self) {
        let now = self.now;
        while let Some(follow_up) = self.live.fire_timer(now) {
            self.follow_up(follow_up);
        }
        self.work.request_if_due(now);
    }

    /// Delivers a message that a client of this process has forwarded.
    pub(super) fn forwarded(&mut self, instance: InstanceId, message: MessageRow, submitted: &Submitted) {
        // A message without a number was stored by an earlier request and has left mail.
        if let (Some(identity), Some(number)) = (submitted.identity, submitted.number) {
            self.deliver_message(instance, identity, number, message);
        }
    }

    /// Delivers a stored message to the live copy of its instance. If there is no live copy, or messages before this
    /// one are missing, requests the instance from the provider.
    pub(super) fn deliver_message(&mut self, to: InstanceId, identity: Identity, number: u64, message: MessageRow) {
        self.end_busy(&to, Some(&message));
        let follow_up = self.live.deliver_message(to, identity, number, message, self.now);
        self.follow_up(follow_up);
    }

    /// Delivers the outcome of an activity to the live copy that waits for it, or stores it.
    pub(super) fn deliver_outcome(&mut self, outcome: Box<LocalOutcome>) {
        if let Some(outcome) = self.live.deliver_outcome(outcome, self.now) {
            self.store_outcome(outcome);
        }
    }

    /// Drops the live copy of an instance that was ended, paused, replaced or removed from outside, and requests work at once,
    /// since the answer brings the cancellations of its activities.
    pub(super) fn instance_ended(&mut self, instance: InstanceId) {
        let follow_up = self.live.ended(instance);
        self.follow_up(follow_up);
        self.work.request();
    }

    /// Releases an instance to the other nodes.
    pub(super) fn release(&mut self, instance: &InstanceId) {
        let Some((execution, claim, deliveries)) = self.live.release(instance) else { return };
        self.store_outcomes(deliveries);
        self.commit(Write::ReleaseInstance { execution, claim }, Context::Other);
    }

    /// Releases instances that other nodes may run, unless this node runs an activity for them: a share of them if it is
    /// busier than the others, and those that have been idle for a minute if it is not busy.
    pub(super) fn release_instances(&mut self) {
        let (last_use, most) = match self.balance.release_up_to() {
            _ if !self.accepts_work() => return,
            _ if self.is_busy() => {
                (self.live.last_use(), self.balance.share_to_shed(self.pool.waiting(), self.live.len()))
            }
            Some(last_use) => (last_use, Balance::BATCH),
            None => return,
        };
        let served = self.activities.instances();
        let idle = self.live.idle_up_to(last_use).filter(|instance| !served.contains(instance));
        let released: Vec<_> = idle.take(most).cloned().collect();
        released.iter().for_each(|instance| self.release(instance));
    }

    /// Returns true if this node leaves new work to other members.
    pub(super) fn is_busy(&self) -> bool {
        self.balance.is_busy(self.capacity().has_room())
    }

    /// Stores the outcomes among these deliveries. Messages are stored already.
    pub(super) fn store_outcomes(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        for delivery in deliveries {
            if let Delivery::Outcome(outcome) = delivery {
                self.store_outcome(outcome);
            }
        }
    }

    /// Drops the live copies that have been idle for longest, while there are too many. If there are other nodes, their
    /// instances are released: one without a live copy is as cheap to run elsewhere.
    pub(super) fn evict(&mut self) {
        while let Some(instance) = self.live.excess(self.shared.options.max_idle_instances) {
            self.metrics.evictions.increment(1);
            // The messages of held events would make a released instance ready at once.
            if self.balance.has_others() && !self.live.holds_events(&instance) {
                self.release(&instance);
            } else {
                let deliveries = self.live.remove(&instance);
                self.store_outcomes(deliveries);
            }
        }
    }
}
