//! Requests whose answer is lost or late, and their traces: activities that may be stored, and instances that may still
//! change. The protocol is explained in `docs/lost-answers.md`.

mod recheck;
mod unconfirmed;

use recheck::RecheckList;
pub(super) use unconfirmed::RequestNumber;
use unconfirmed::Unconfirmed;

use crate::id::{ActivityId, EventId, ExecutionId, InstanceId};
use crate::provider::{Tenure, Turn};

/// The unconfirmed activities, and the instances that are rechecked.
#[derive(Default)]
pub(super) struct LostAnswers {
    unconfirmed: Unconfirmed,
    recheck: RecheckList,
}

/// An instance that was read by its name.
pub(super) enum Found {
    Missing,
    /// This node owns it.
    Own,
    /// Another node owns it, or none.
    Other,
}

/// The effect of an instance that was read, because activities of it are unconfirmed.
#[derive(Debug, PartialEq)]
pub(super) enum Settled {
    /// Load the instance.
    Load,
    /// Release these activities.
    Release(Vec<Tenure>),
}

/// The activities of an instance that this node runs, or may be about to begin.
pub(super) struct Here<'a, R> {
    /// The live copy whose turn, or its commit, is in flight: its execution and last committed event.
    pub(super) in_flight: Option<(&'a ExecutionId, EventId)>,
    /// Returns true if this node runs the activity.
    pub(super) runs: R,
}

impl<R: Fn(&ActivityId) -> bool> Here<'_, R> {
    /// Returns true if the turn in flight may have scheduled the activity: this node then begins it with the answer.
    fn may_schedule(&self, activity: &ActivityId, scheduled: EventId) -> bool {
        self.in_flight.is_some_and(|(execution, committed)| activity.execution == *execution && scheduled > committed)
    }
}

impl LostAnswers {
    /// Returns the number of a new request.
    pub(super) fn next_request(&mut self) -> RequestNumber {
        self.unconfirmed.next_request()
    }

    /// Adds the eager activities of a refused turn: an earlier sending of it may have been stored. The caller loads the
    /// instance, which settles them.
    pub(super) fn mark_unconfirmed(&mut self, turn: &Turn) {
        self.unconfirmed.add(turn);
    }

    /// Removes the activities of a turn that was stored.
    pub(super) fn confirm(&mut self, turn: &Turn) {
        self.unconfirmed.remove(turn);
    }

    /// Returns true if activities of an instance are unconfirmed.
    pub(super) fn concern(&self, instance: &InstanceId) -> bool {
        self.unconfirmed.concern(instance)
    }

    /// Settles the activities of an instance that an answer contains, with a history that ends with `last`. Returns the
    /// activities to be released.
    pub(super) fn loaded<R: Fn(&ActivityId) -> bool>(
        &mut self,
        execution: &ExecutionId,
        last: EventId,
        asked: RequestNumber,
        here: &Here<'_, R>,
    ) -> Vec<Tenure> {
        // An activity was stored if it belongs to another execution, or the event that schedules it is in the history.
        let stored = |activity: &ActivityId, scheduled| activity.execution != *execution || scheduled <= last;
        self.settle(&execution.instance, asked, here, stored)
    }

    /// Settles the activities of an instance that was read.
    pub(super) fn read<R: Fn(&ActivityId) -> bool>(
        &mut self,
        instance: &InstanceId,
        found: &Found,
        asked: RequestNumber,
        here: &Here<'_, R>,
    ) -> Settled {
        let lost = match found {
            // A lost request may still create it.
            Found::Missing if self.recheck.contains(instance) => Vec::new(),
            // The turn was not stored, or its activities were removed with the instance.
            Found::Missing => {
                self.settle(instance, asked, &Here { in_flight: None, runs: |_: &_| false }, |_, _| false)
            }
            // It was created since the request by name.
            Found::Own => return Settled::Load,
            Found::Other => self.settle(instance, asked, here, |_, _| true),
        };
        Settled::Release(lost)
    }

    /// Removes the activities that an answer settles. Returns those of them that were stored and do not run here.
    fn settle<R: Fn(&ActivityId) -> bool>(
        &mut self,
        instance: &InstanceId,
        asked: RequestNumber,
        here: &Here<'_, R>,
        stored: impl Fn(&ActivityId, EventId) -> bool,
    ) -> Vec<Tenure> {
        if self.unconfirmed.is_empty() {
            return Vec::new();
        }
        let open = |activity: &ActivityId, scheduled| here.may_schedule(activity, scheduled);
        let settled = self.unconfirmed.take(instance, asked, open).into_iter();
        let lost = settled.filter(|(activity, scheduled)| stored(activity, *scheduled) && !(here.runs)(activity));
        lost.map(|(activity, _)| Tenure { activity, attempt: 1, claim: 0 }).collect()
    }

    /// Adds an instance that a lost request may still change. The caller loads it at once.
    pub(super) fn recheck(&mut self, instance: InstanceId) {
        self.recheck.add(instance);
    }

    /// Returns true if a tick must follow.
    pub(super) fn needs_tick(&self) -> bool {
        !self.recheck.is_empty()
    }

    /// Handles a tick: returns the instances to be loaded now, and removes those whose time is over.
    pub(super) fn tick(&mut self) -> Vec<InstanceId> {
        self.recheck.tick()
    }

    /// Removes everything, since the lease is lost. Requests without an answer stay older than later entries.
    pub(super) fn clear(&mut self) {
        self.unconfirmed.clear();
        self.recheck = RecheckList::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::id::{CallId, Identity};
    use crate::provider::NewActivity;

    fn instance(name: &str) -> InstanceId {
        InstanceId::new(name).expect("valid")
    }

    fn execution(name: &str, number: u64) -> ExecutionId {
        ExecutionId { instance: instance(name), identity: Identity::UNKNOWN, number }
    }

    fn activity(name: &str, number: u64) -> ActivityId {
        ActivityId { execution: execution(name, number), call: CallId(1) }
    }

    /// A turn that schedules one eager activity by event 2.
    fn turn(name: &str, number: u64) -> Turn {
        let turn = Turn::new(execution(name, number), EventId(1), Timestamp::default());
        let activity = NewActivity { eager: true, ..NewActivity::new(CallId(1), EventId(2), "work") };
        Turn { activities: vec![activity], ..turn }
    }

    fn refused(name: &str) -> LostAnswers {
        let mut lost = LostAnswers::default();
        lost.mark_unconfirmed(&turn(name, 1));
        lost
    }

    fn tenure(activity: ActivityId) -> Vec<Tenure> {
        vec![Tenure { activity, attempt: 1, claim: 0 }]
    }

    const IDLE: Here<'_, fn(&ActivityId) -> bool> = Here { in_flight: None, runs: |_| false };
    const RUNNING: Here<'_, fn(&ActivityId) -> bool> = Here { in_flight: None, runs: |_| true };

    #[test]
    fn loaded_history_settles_an_activity() {
        // The execution and its last event, then true if the activity is to be released.
        let cases = [
            (execution("a", 1), EventId(1), false),
            (execution("a", 1), EventId(2), true),
            (execution("a", 2), EventId(1), true),
            (execution("b", 1), EventId(9), false),
        ];
        for (execution, last, is_stored) in cases {
            let mut lost = refused("a");
            let asked = lost.next_request();
            let released = lost.loaded(&execution, last, asked, &IDLE);
            assert_eq!(released, if is_stored { tenure(activity("a", 1)) } else { Vec::new() }, "{execution} {last}");
            assert_eq!(lost.concern(&instance("a")), execution.instance == instance("b"), "settled, released or not");
        }
    }

    #[test]
    fn running_activity_is_settled_and_not_released() {
        let mut lost = refused("a");
        let asked = lost.next_request();
        assert_eq!(lost.loaded(&execution("a", 1), EventId(2), asked, &RUNNING), []);
        assert!(!lost.concern(&instance("a")));
    }

    #[test]
    fn turn_in_flight_keeps_the_activity_that_it_may_schedule() {
        let own = execution("a", 1);
        for (committed, stays) in [(EventId(1), true), (EventId(2), false)] {
            let mut lost = refused("a");
            let asked = lost.next_request();
            let here = Here { in_flight: Some((&own, committed)), runs: |_: &_| false };
            let released = lost.loaded(&own, EventId(2), asked, &here);
            assert_eq!((released.is_empty(), lost.concern(&own.instance)), (stays, stays), "{committed}");
        }
    }

    #[test]
    fn confirmed_turn_leaves_no_activity() {
        let mut lost = refused("a");
        lost.confirm(&turn("a", 2));
        assert!(lost.concern(&instance("a")), "another execution");
        lost.confirm(&turn("a", 1));
        assert!(!lost.concern(&instance("a")));
    }

    #[test]
    fn read_instance_settles_its_activities() {
        let release = Settled::Release;
        // The instance, true if a lost request may still create it; the effect, and true if the activity stays.
        let cases = [
            (Found::Missing, false, release(Vec::new()), false),
            (Found::Missing, true, release(Vec::new()), true),
            (Found::Own, false, Settled::Load, true),
            (Found::Other, false, release(tenure(activity("a", 1))), false),
        ];
        for (found, is_rechecked, effect, stays) in cases {
            let mut lost = refused("a");
            if is_rechecked {
                lost.recheck(instance("a"));
            }
            let asked = lost.next_request();
            assert_eq!(lost.read(&instance("a"), &found, asked, &IDLE), effect);
            assert_eq!(lost.concern(&instance("a")), stays);
        }
    }

    #[test]
    fn only_a_later_request_settles_an_activity() {
        let mut lost = LostAnswers::default();
        let before = lost.next_request();
        lost.mark_unconfirmed(&turn("b", 1));
        let between = lost.next_request();
        lost.mark_unconfirmed(&turn("b", 2));
        for other in ["a", "b-"] {
            lost.mark_unconfirmed(&turn(other, 1));
        }
        let settles = |lost: &mut LostAnswers, asked| lost.loaded(&execution("b", 3), EventId(0), asked, &IDLE);
        assert_eq!(settles(&mut lost, before), []);
        assert_eq!(settles(&mut lost, between), tenure(activity("b", 1)));
        let after = lost.next_request();
        assert_eq!(settles(&mut lost, after), tenure(activity("b", 2)));
        assert!(lost.concern(&instance("a")) && lost.concern(&instance("b-")), "others stay");
    }

    #[test]
    fn lost_lease_forgets_activities_and_keeps_request_order() {
        let mut lost = refused("a");
        let late = lost.next_request();
        lost.recheck(instance("a"));
        lost.clear();
        assert!(!lost.concern(&instance("a")) && !lost.needs_tick());
        lost.mark_unconfirmed(&turn("a", 1));
        assert_eq!(lost.loaded(&execution("a", 1), EventId(2), late, &IDLE), []);
    }

    #[test]
    fn instances_are_rechecked_for_32_seconds() {
        let mut lost = LostAnswers::default();
        lost.recheck(instance("a"));
        let mut due = Vec::new();
        for second in 1..=40 {
            assert_eq!(lost.needs_tick(), second <= 32);
            due.extend(lost.tick().iter().map(|_| second));
        }
        assert_eq!(due, [1, 2, 4, 8, 16, 32]);
    }
}
