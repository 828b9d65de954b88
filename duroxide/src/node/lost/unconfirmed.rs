//! Unconfirmed activities: a refused turn has scheduled them, and an earlier sending of the turn may have been stored,
//! with its answer lost.
//!
//! If it was stored, this node owns the eager activities of the turn. They were never claimed, so no request for work
//! returns them, and no other node runs them. `turn_refused` therefore loads the instances of the turn by name: the
//! answers bring their messages, and their histories settle the activities. If the history ends before the event that
//! schedules an activity, the turn was not stored, and the activity will be scheduled anew. Otherwise the node releases
//! the activity, and any node may claim it.
//!
//! Only the answer to a request that was sent after the refusal settles an activity: an older request may have been
//! answered before the late commit was carried out.

use std::collections::BTreeMap;

use crate::backoff::Backoff;
use crate::id::{ActivityId, CallId, EventId, ExecutionId, Identity, InstanceId};
use crate::node::commits::Context;
use crate::node::live::LiveState;
use crate::node::{Answer, Node};
use crate::provider::{InstanceRecord, Tenure, Turn, Write};

/// The unconfirmed activities.
#[derive(Default)]
pub(in crate::node) struct Unconfirmed {
    /// Ordered, so that a simulation repeats.
    activities: BTreeMap<ActivityId, Doubt>,
    questions: u64,
}

struct Doubt {
    /// The event that schedules the activity, if its turn was stored.
    scheduled: EventId,
    /// The last request before the refusal.
    since: RequestNumber,
}

/// The number of a request. Its answer settles the entries that are older than the request.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::node) struct RequestNumber(u64);

impl Unconfirmed {
    /// Returns the number of a new request.
    pub(in crate::node) fn question(&mut self) -> RequestNumber {
        self.questions += 1;
        RequestNumber(self.questions)
    }

    fn add(&mut self, activity: ActivityId, scheduled: EventId) {
        let since = RequestNumber(self.questions);
        self.activities.insert(activity, Doubt { scheduled, since });
    }

    fn of<'d>(&'d self, instance: &'d InstanceId) -> impl Iterator<Item = (&'d ActivityId, &'d Doubt)> {
        let first = ExecutionId { instance: instance.clone(), identity: Identity::UNKNOWN, number: 0 };
        let from = ActivityId { execution: first, call: CallId(0) };
        self.activities.range(from..).take_while(|(activity, _)| activity.execution.instance == *instance)
    }

    /// Removes and returns the activities of an instance that the answer to a request settles. An activity for which
    /// `open` returns true stays.
    fn take(
        &mut self,
        instance: &InstanceId,
        asked: RequestNumber,
        open: impl Fn(&ActivityId, EventId) -> bool,
    ) -> Vec<(ActivityId, EventId)> {
        let settled =
            |(activity, doubt): &(&ActivityId, &Doubt)| doubt.since < asked && !open(activity, doubt.scheduled);
        let settled = self.of(instance).filter(settled);
        let settled: Vec<_> = settled.map(|(activity, doubt)| (activity.clone(), doubt.scheduled)).collect();
        for (activity, _) in &settled {
            self.activities.remove(activity);
        }
        settled
    }

    /// Removes all activities, since the node has lost its lease. Requests without an answer stay older than later
    /// entries.
    pub(in crate::node) fn clear(&mut self) {
        self.activities.clear();
    }
}

impl Node {
    /// Marks the eager activities of a refused turn as unconfirmed. The caller loads the instance, which settles them.
    pub(in crate::node) fn mark_unconfirmed(&mut self, turn: &Turn) {
        let eager = turn.activities.iter().filter(|activity| activity.eager);
        eager.for_each(|activity| self.doubts.add(id(turn, activity.call), activity.scheduled));
    }

    /// Removes the activities of a turn that was stored.
    pub(in crate::node) fn confirm(&mut self, turn: &Turn) {
        if self.doubts.activities.is_empty() {
            return;
        }
        for activity in &turn.activities {
            self.doubts.activities.remove(&id(turn, activity.call));
        }
    }

    /// Settles the activities of an instance that an answer contains. An activity was stored if it belongs to another
    /// execution, or the event that schedules it is in the history, which ends with `last`.
    pub(in crate::node) fn handed_out(&mut self, execution: &ExecutionId, last: EventId, asked: RequestNumber) {
        let stored = |activity: &ActivityId, scheduled| activity.execution != *execution || scheduled <= last;
        self.settle(&execution.instance, asked, stored);
    }

    /// Reads an instance that was requested by name and is not in the answer, if activities of it are unconfirmed.
    pub(in crate::node) fn look_for(&mut self, instance: &InstanceId) {
        if self.doubts.of(instance).next().is_none() {
            return;
        }
        let (shared, instance, asked) = (self.shared.clone(), instance.clone(), self.doubts.question());
        self.ask(async move {
            let mut backoff = Backoff::default();
            loop {
                match shared.provider.instance(&instance).await {
                    Ok(record) => return Answer::Instance(instance, record.map(Box::new), asked),
                    Err(error) => {
                        tracing::warn!(%error, %instance, "the instance cannot be read; retrying")
                    }
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    /// Settles the activities of an instance that [`look_for`](Self::look_for) has read.
    pub(in crate::node) fn looked_for(
        &mut self,
        instance: InstanceId,
        record: Option<&InstanceRecord>,
        asked: RequestNumber,
    ) {
        match record {
            // A lost request may still create it.
            None if self.uncertain.contains(&instance) => {}
            // The turn was not stored, or its activities were removed with the instance.
            None => drop(self.doubts.take(&instance, asked, |_, _| false)),
            // It was created since the request by name.
            Some(record) if record.owner == Some(self.lease.epoch) => self.acquiring.load(instance),
            Some(_) => self.settle(&instance, asked, |_, _| true),
        }
    }

    /// Loads an instance whose turn has ended, if activities of it are unconfirmed: the turn kept their entries open.
    pub(in crate::node) fn settle_later(&mut self, instance: &InstanceId) {
        if !self.doubts.activities.is_empty() && self.doubts.of(instance).next().is_some() {
            self.acquiring.load(instance.clone());
        }
    }

    /// Releases the activities that were stored and do not run here.
    fn settle(&mut self, instance: &InstanceId, asked: RequestNumber, stored: impl Fn(&ActivityId, EventId) -> bool) {
        if self.doubts.activities.is_empty() {
            return;
        }
        // The turn in flight may have scheduled the same activity again, and then runs it.
        let busy = self.instances.get(instance).filter(|live| matches!(live.state, LiveState::Busy));
        let open = |activity: &ActivityId, scheduled| {
            busy.is_some_and(|live| activity.execution == live.execution && scheduled > live.committed)
        };
        for (activity, scheduled) in self.doubts.take(instance, asked, open) {
            if stored(&activity, scheduled) && !self.running.contains_key(&activity) {
                self.commit(
                    Write::ReleaseActivity { tenure: Tenure { activity, attempt: 1, claim: 0 } },
                    Context::Other,
                );
            }
        }
    }
}

fn id(turn: &Turn, call: CallId) -> ActivityId {
    ActivityId { execution: turn.execution.clone(), call }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_request_settles_an_entry() {
        let instance = |name| InstanceId::new(name).expect("valid");
        let activity = |name, number, call| ActivityId {
            execution: ExecutionId { instance: instance(name), identity: Identity::UNKNOWN, number },
            call: CallId(call),
        };
        let mut doubts = Unconfirmed::default();
        let before = doubts.question();
        doubts.add(activity("b", 1, 1), EventId(2));
        let between = doubts.question();
        doubts.add(activity("b", 2, 1), EventId(3));
        for (name, number) in [("a", 9), ("b-", 1)] {
            doubts.add(activity(name, number, 1), EventId(2));
        }
        assert_eq!(doubts.take(&instance("b"), before, |_, _| false), []);
        assert_eq!(doubts.take(&instance("b"), between, |_, _| false), [(activity("b", 1, 1), EventId(2))]);
        let after = doubts.question();
        assert_eq!(doubts.take(&instance("b"), after, |_, _| false), [(activity("b", 2, 1), EventId(3))]);
        assert_eq!(doubts.activities.len(), 2, "others stay");
    }
}
