//! Activities of which it is not known whether this node was given them.
//!
//! A turn that was refused may have been written before, with its answer lost, and something else have happened since. Then
//! nobody knows that this node has its eager activities: messages and instances come with the next question, activities
//! do not. It is known once the instance is loaded: what its history has not scheduled was never written, and will be
//! scheduled anew; anything else is given back, to be handed out like others.
//!
//! Only a question that was asked after the refusal tells: what was sent before may have been written after an earlier
//! question was answered.

use std::collections::BTreeMap;

use super::commits::Context;
use super::{Answer, Node};
use crate::id::{ActivityId, CallId, EventId, ExecutionId, Identity, InstanceId};
use crate::provider::{InstanceRecord, Tenure, Turn, Write};
use crate::runtime::Backoff;
use crate::runtime::slot::SlotState;

/// See the module.
#[derive(Default)]
pub(super) struct Doubts {
    /// In an order that a simulation repeats.
    activities: BTreeMap<ActivityId, Doubt>,
    questions: u64,
}

struct Doubt {
    /// The event that schedules it, if it was written.
    scheduled: EventId,
    /// The last question before it.
    since: Question,
}

/// A question whose answer may settle doubts: those that are older.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question(u64);

impl Doubts {
    /// Asks.
    pub(super) fn question(&mut self) -> Question {
        self.questions += 1;
        Question(self.questions)
    }

    fn add(&mut self, activity: ActivityId, scheduled: EventId) {
        let since = Question(self.questions);
        self.activities.insert(activity, Doubt { scheduled, since });
    }

    fn of<'d>(&'d self, instance: &'d InstanceId) -> impl Iterator<Item = (&'d ActivityId, &'d Doubt)> {
        let first = ExecutionId { instance: instance.clone(), identity: Identity::UNKNOWN, number: 0 };
        let from = ActivityId { execution: first, call: CallId(0) };
        self.activities.range(from..).take_while(|(activity, _)| activity.execution.instance == *instance)
    }

    /// Takes those of an instance that the answer to a question settles, but for some that are still open.
    fn take(
        &mut self,
        instance: &InstanceId,
        asked: Question,
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

    /// Forgets them all: what the node was given is not its own any more. Questions that are not answered yet stay older
    /// than what follows.
    pub(super) fn clear(&mut self) {
        self.activities.clear();
    }
}

impl Node {
    /// A turn was refused: its eager activities are in doubt. Its instance is to be loaded.
    pub(super) fn doubt(&mut self, turn: &Turn) {
        let eager = turn.activities.iter().filter(|activity| activity.eager);
        eager.for_each(|activity| self.doubts.add(id(turn, activity.call), activity.scheduled));
    }

    /// A turn was written by a commit that is answered: what it has scheduled is in no doubt.
    pub(super) fn is_written(&mut self, turn: &Turn) {
        if self.doubts.activities.is_empty() {
            return;
        }
        for activity in &turn.activities {
            self.doubts.activities.remove(&id(turn, activity.call));
        }
    }

    /// An instance was handed out, up to an event of an execution: what that has scheduled was written.
    pub(super) fn handed_out(&mut self, execution: &ExecutionId, last: EventId, asked: Question) {
        let written = |activity: &ActivityId, scheduled| activity.execution != *execution || scheduled <= last;
        self.settle(&execution.instance, asked, written);
    }

    /// An instance was not handed out when it was to be loaded: looks for it, if something of it is in doubt.
    pub(super) fn look_for(&mut self, instance: &InstanceId) {
        if self.doubts.of(instance).next().is_none() {
            return;
        }
        let (shared, instance, asked) = (self.shared.clone(), instance.clone(), self.doubts.question());
        self.ask(async move {
            let mut backoff = Backoff::default();
            loop {
                match shared.provider.instance(&instance).await {
                    Ok(record) => return Answer::Instance(instance, record.map(Box::new), asked),
                    Err(error) => tracing::warn!(%error, %instance, "it cannot be read; it is tried again"),
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    /// An instance that was not handed out was looked for.
    pub(super) fn looked_for(&mut self, instance: InstanceId, record: Option<&InstanceRecord>, asked: Question) {
        match record {
            // It may be on its way yet.
            None if self.uncertain.contains(&instance) => {}
            // Nothing was written, or what was is gone with it.
            None => drop(self.doubts.take(&instance, asked, |_, _| false)),
            // It has come to be meanwhile.
            Some(record) if record.owner == Some(self.lease.epoch) => self.acquiring.load(instance),
            Some(_) => self.settle(&instance, asked, |_, _| true),
        }
    }

    /// A turn is over: what it left open is asked for again.
    pub(super) fn settle_later(&mut self, instance: &InstanceId) {
        if !self.doubts.activities.is_empty() && self.doubts.of(instance).next().is_some() {
            self.acquiring.load(instance.clone());
        }
    }

    /// Gives back what was written and does not run.
    fn settle(&mut self, instance: &InstanceId, asked: Question, written: impl Fn(&ActivityId, EventId) -> bool) {
        if self.doubts.activities.is_empty() {
            return;
        }
        // A turn that is under way may have scheduled the same, and then runs it.
        let busy = self.slots.get(instance).filter(|slot| matches!(slot.state, SlotState::Busy));
        let open = |activity: &ActivityId, scheduled| {
            busy.is_some_and(|slot| activity.execution == slot.execution && scheduled > slot.committed)
        };
        for (activity, scheduled) in self.doubts.take(instance, asked, open) {
            if written(&activity, scheduled) && !self.running.contains_key(&activity) {
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
    fn only_a_later_question_settles_a_doubt() {
        let instance = |name| InstanceId::new(name).expect("valid");
        let activity = |name, number, call| ActivityId {
            execution: ExecutionId { instance: instance(name), identity: Identity::UNKNOWN, number },
            call: CallId(call),
        };
        let mut doubts = Doubts::default();
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
