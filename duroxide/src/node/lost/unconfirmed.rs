//! Unconfirmed activities: a refused turn has scheduled them, and an earlier sending of the turn may have been stored,
//! with its answer lost.
//!
//! If it was stored, this node owns the eager activities of the turn. They were never claimed, so no request for work
//! returns them, and no other node runs them. `turn_refused` therefore loads the instances of the turn by name: the
//! answers bring their messages, and their histories settle the activities. If the history ends before the event that
//! schedules an activity, the turn was not stored, and the activity will be scheduled again. Otherwise the node releases
//! the activity, and any node may claim it.
//!
//! Only the answer to a request that was sent after the refusal settles an activity: an older request may have been
//! answered before the late commit was carried out.

use std::collections::BTreeMap;

use crate::id::{ActivityId, CallId, EventId, ExecutionId, Identity, InstanceId};
use crate::provider::Turn;

/// The unconfirmed activities.
#[derive(Default)]
pub(super) struct Unconfirmed {
    /// Ordered, so that a simulation repeats.
    activities: BTreeMap<ActivityId, Entry>,
    last_request: RequestNumber,
}

struct Entry {
    /// The event that schedules the activity, if its turn was stored.
    scheduled: EventId,
    /// The last request before the refusal.
    since: RequestNumber,
}

/// The number of a request. Its answer settles the entries that are older than the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::node) struct RequestNumber(u64);

impl Unconfirmed {
    /// Returns the number of a new request.
    pub(super) fn next_request(&mut self) -> RequestNumber {
        self.last_request.0 += 1;
        self.last_request
    }

    /// Adds the eager activities of a turn.
    pub(super) fn add(&mut self, turn: &Turn) {
        let since = self.last_request;
        for activity in turn.activities.iter().filter(|activity| activity.eager) {
            self.activities.insert(id(turn, activity.call), Entry { scheduled: activity.scheduled, since });
        }
    }

    /// Removes the activities of a turn.
    pub(super) fn remove(&mut self, turn: &Turn) {
        if self.activities.is_empty() {
            return;
        }
        for activity in &turn.activities {
            self.activities.remove(&id(turn, activity.call));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.activities.is_empty()
    }

    /// Returns true if activities of an instance are unconfirmed.
    pub(super) fn concern(&self, instance: &InstanceId) -> bool {
        !self.activities.is_empty() && self.of(instance).next().is_some()
    }

    fn of<'d>(&'d self, instance: &'d InstanceId) -> impl Iterator<Item = (&'d ActivityId, &'d Entry)> {
        let first = ExecutionId { instance: instance.clone(), identity: Identity::UNKNOWN, number: 0 };
        let from = ActivityId { execution: first, call: CallId(0) };
        self.activities.range(from..).take_while(|(activity, _)| activity.execution.instance == *instance)
    }

    /// Removes and returns the activities of an instance that the answer to a request settles. An activity for which
    /// `open` returns true stays.
    pub(super) fn take(
        &mut self,
        instance: &InstanceId,
        asked: RequestNumber,
        open: impl Fn(&ActivityId, EventId) -> bool,
    ) -> Vec<(ActivityId, EventId)> {
        let settled =
            |(activity, entry): &(&ActivityId, &Entry)| entry.since < asked && !open(activity, entry.scheduled);
        let settled = self.of(instance).filter(settled);
        let settled: Vec<_> = settled.map(|(activity, entry)| (activity.clone(), entry.scheduled)).collect();
        for (activity, _) in &settled {
            self.activities.remove(activity);
        }
        settled
    }

    pub(super) fn clear(&mut self) {
        self.activities.clear();
    }
}

fn id(turn: &Turn, call: CallId) -> ActivityId {
    ActivityId { execution: turn.execution.clone(), call }
}
