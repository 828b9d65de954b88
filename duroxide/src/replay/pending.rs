//! The calls without an outcome, counted by kind, so that listing the calls an execution waits for stays cheap even with
//! thousands of them.
//!
//! When a kind has one open call, the sum of ids is its id, so the call is found without a search. Events are counted by the
//! mailbox.

use std::collections::BTreeSet;

use super::mailbox::Mailbox;
use super::op::{Call, Op};
use crate::clock::Timestamp;
use crate::hash::HashMap;
use crate::history::{Awaited, AwaitedKind, Decision, Waits};
use crate::id::CallId;

#[derive(Default)]
pub(super) struct Pending {
    activities: OfKind,
    children: OfKind,
    /// By due time.
    timers: BTreeSet<(Timestamp, CallId)>,
}

/// The open calls of one kind.
#[derive(Default)]
pub(super) struct OfKind {
    count: u64,
    /// The sum of their ids, modulo 2^64.
    sum: u64,
    /// When the last one was made.
    last: Option<Timestamp>,
}

/// The facts about a call that are shown while it has no outcome.
pub(super) struct CallFacts {
    at: Timestamp,
    /// The name of the activity or the orchestration; empty for others.
    name: Box<str>,
    /// When the timer is due.
    due: Option<Timestamp>,
}

impl CallFacts {
    pub(super) fn new(at: Timestamp, decision: &Decision) -> Self {
        let (name, due) = match decision {
            Decision::ActivityScheduled(activity) => (activity.name.as_str(), None),
            Decision::ChildScheduled(child) => (child.name.as_str(), None),
            Decision::TimerCreated { due, .. } => ("", Some(*due)),
            Decision::EventAwaited { .. }
            | Decision::CallRejected { .. }
            | Decision::CallDropped { .. }
            | Decision::Completed
            | Decision::Failed { .. }
            | Decision::Cancelled { .. }
            | Decision::Terminated { .. }
            | Decision::ContinuedAsNew { .. } => ("", None),
        };
        Self { at, name: name.into(), due }
    }

    #[cfg(test)]
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl OfKind {
    fn add(&mut self, call: CallId, at: Timestamp) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(call.0);
        self.last = Some(at);
    }

    fn remove(&mut self, call: CallId) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(call.0);
    }
}

impl Pending {
    pub(super) fn add(&mut self, id: CallId, call: &Call) {
        match self.of(&call.op) {
            Some(kind) => kind.add(id, call.facts.at),
            None => self.timers.extend(call.facts.due.map(|due| (due, id))),
        }
    }

    /// Removes a call that has its outcome, or whose outcome no future waits for.
    pub(super) fn remove(&mut self, id: CallId, call: &Call) {
        match self.of(&call.op) {
            Some(kind) => kind.remove(id),
            None => {
                call.facts.due.map(|due| self.timers.remove(&(due, id)));
            }
        }
    }

    fn of(&mut self, op: &Op) -> Option<&mut OfKind> {
        match op {
            Op::Activity { .. } => Some(&mut self.activities),
            Op::Child { .. } | Op::DetachedStart => Some(&mut self.children),
            Op::Timer | Op::Event | Op::Refused => None,
        }
    }

    /// Returns the open calls; `None` if the execution waits for no call.
    pub(super) fn waits(&self, calls: &HashMap<CallId, Call>, mailbox: &Mailbox) -> Option<Waits> {
        let (activities, children) = (&self.activities, &self.children);
        let (awaited_events, first_timer) = (mailbox.awaited(), self.timers.first());
        let events = awaited_events.as_ref().map_or(0, |events| events.count);
        let newest = || {
            let kinds = [activities, children].into_iter().filter(|kind| kind.count > 0);
            let last_event = awaited_events.as_ref().and_then(|events| events.last);
            kinds.filter_map(|kind| kind.last).chain(last_event).max()
        };
        let several = |awaited: Awaited| Some((awaited.to_string(), newest()?));
        let only = |kind: AwaitedKind, of: &OfKind| {
            let facts = &calls.get(&CallId(of.sum))?.facts;
            Some((Awaited::text_of_one(kind, &facts.name), facts.at))
        };
        let (text, since) = match (activities.count, children.count, events) {
            (0, 0, 0) => {
                let (due, id) = first_timer?;
                (Awaited::Timer.to_string(), calls.get(id).map_or(*due, |call| call.facts.at))
            }
            (1, 0, 0) => only(AwaitedKind::Activity, activities)?,
            (n, 0, 0) => several(Awaited::Activities(n))?,
            (0, 1, 0) => only(AwaitedKind::Child, children)?,
            (0, n, 0) => several(Awaited::Children(n))?,
            (0, 0, n) => match awaited_events.as_ref().and_then(|events| events.only) {
                Some(name) => (Awaited::text_of_one(AwaitedKind::Event, name), newest()?),
                None => several(Awaited::Events(n))?,
            },
            (a, c, e) => several(Awaited::Calls(a + c + e))?,
        };
        let until = first_timer.map(|(due, _)| *due);
        Some(Waits { text, since, until })
    }
}
