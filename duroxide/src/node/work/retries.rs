//! The activities that this node has put back for another attempt.
//!
//! The provider judges by the clock which of them are due. While that clock was set back, the node names those whose pause
//! has passed by the monotonic clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::id::ActivityId;
use crate::provider::AcquiredActivity;

#[derive(Default)]
pub(super) struct Retries {
    /// By the time at which the pause has passed, with the time that is stored: the same, unless the clock was set back
    /// since the attempt failed.
    waiting: BTreeSet<(Timestamp, Timestamp, ActivityId)>,
    /// True if the clock was set back while some of them waited.
    ahead: bool,
    /// Those whose pause has passed before their stored time.
    overdue: BTreeMap<ActivityId, Timestamp>,
    /// Those that the request under way names.
    named: Vec<ActivityId>,
}

impl Retries {
    /// Adds an activity whose next attempt may begin at `due`.
    pub(super) fn add(&mut self, activity: ActivityId, due: Timestamp) {
        self.waiting.insert((due, due, activity));
    }

    /// Moves the ends of the pauses, since the clock was set by these microseconds.
    pub(super) fn clock_was_set(&mut self, step: i64) {
        let moved =
            |(by, due, activity): (Timestamp, Timestamp, ActivityId)| (by.shifted(step).min(due), due, activity);
        self.waiting = std::mem::take(&mut self.waiting).into_iter().map(moved).collect();
        self.ahead = self.waiting.iter().any(|(by, due, _)| by < due);
    }

    /// Returns when the next pause has passed, if the provider may not know it.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.waiting.first().filter(|_| self.ahead).map(|(by, ..)| *by)
    }

    /// Removes the activities whose pause has passed. Returns true if some of them are to be named.
    pub(super) fn pass(&mut self, now: Timestamp) -> bool {
        let before = self.overdue.len();
        while let Some((by, due, activity)) = self.waiting.pop_first() {
            if by > now {
                self.waiting.insert((by, due, activity));
                break;
            }
            if due > now {
                self.overdue.insert(activity, due);
            }
        }
        self.overdue.len() > before
    }

    /// Returns the activities that a request names.
    pub(super) fn name(&mut self, now: Timestamp) -> Vec<ActivityId> {
        self.pass(now);
        self.overdue.retain(|_, due| *due > now);
        self.named = self.overdue.keys().cloned().collect();
        self.named.clone()
    }

    /// Forgets the activities that were named, if they were claimed. If `all`, also the others: there was a permit for
    /// each, so another node has claimed them, or they were removed.
    pub(super) fn answered(&mut self, claimed: &[AcquiredActivity], all: bool) {
        for activity in std::mem::take(&mut self.named) {
            if all || claimed.iter().any(|claimed| claimed.id == activity) {
                self.overdue.remove(&activity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallId, ExecutionId, Identity, InstanceId};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn activity(call: u64) -> ActivityId {
        let instance = InstanceId::new("a").unwrap();
        let execution = ExecutionId { instance, identity: Identity::UNKNOWN, number: 1 };
        ActivityId { execution, call: CallId(call) }
    }

    #[test]
    fn pause_that_passed_while_the_clock_was_set_back_is_named() {
        let mut retries = Retries::default();
        retries.add(activity(1), at(110));
        retries.add(activity(2), at(120));
        assert_eq!(retries.next(), None, "the provider knows");
        retries.clock_was_set(-60);
        retries.add(activity(3), at(55));
        assert_eq!(retries.next(), Some(at(50)));
        assert!(!retries.pass(at(49)));
        assert!(retries.pass(at(50)));
        assert_eq!(retries.name(at(56)), [activity(1)], "the provider judges those of the new time");
        retries.answered(&[], false);
        assert_eq!(retries.name(at(56)), [activity(1)], "there was no permit");
        retries.answered(&[], true);
        assert!(retries.name(at(56)).is_empty());
        // The time is corrected.
        retries.clock_was_set(60);
        assert_eq!((retries.pass(at(120)), retries.next()), (false, None));
    }
}
