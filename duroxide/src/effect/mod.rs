//! The effects of events on a commit: the one place where a decision becomes rows, messages and new work.
//!
//! ```text
//! events of a turn ──► effect ──► Turn: events, consumed and sent messages, activities, children, the next state
//! ```
//!
//! The node commits the turns that its live copies make. A client commits the `termination` of an instance, which has
//! no code. Each durable operation has its effects in one file: when it is scheduled, when it has its outcome, when its
//! future is dropped, and when its execution ends before it.

mod activity;
mod cause;
mod child;
mod end;
pub(crate) mod graft;
mod termination;
mod timer;

use semver::Version;

pub(crate) use activity::ScheduledActivity;
pub(crate) use cause::Causes;
pub(crate) use termination::termination;

use crate::clock::Timestamp;
use crate::history::{Decision, EventKind, Failure, HistoryEvent, Started, Waits};
use crate::id::{CallId, EventId, ExecutionId, Identity, InstanceId, MessageId};
use crate::message::Message;
use crate::payload::Payload;
use crate::provider::{EventRow, InstanceStatus, MessageRow, Outgoing, Then, Turn};
use crate::replay::op::Op;
use crate::replay::{Leftovers, Step};

/// The instance and the time of a turn.
pub(crate) struct TurnInfo<'a> {
    pub(crate) execution: &'a ExecutionId,
    pub(crate) version: &'a Version,
    pub(crate) committed: EventId,
    pub(crate) started: &'a Started,
    pub(crate) now: Timestamp,
    pub(crate) causes: Causes,
}

/// The decisions of a turn.
#[derive(Default)]
pub(crate) struct TurnOutput {
    pub(crate) steps: Vec<Step>,
    /// Stored messages that were read.
    pub(crate) consumed: Vec<MessageId>,
    /// Outcomes that were never stored as messages: call and attempt.
    pub(crate) outcomes: Vec<(CallId, u32)>,
    pub(crate) ended: bool,
    /// The calls that it leaves open, if it has not ended.
    pub(crate) waits: Option<Waits>,
    /// Unread events that the next execution receives as new messages, in their order.
    pub(crate) carried: Vec<MessageRow>,
    /// The open calls of an execution that has ended.
    pub(crate) leftovers: Leftovers,
}

impl TurnOutput {
    /// Returns true if there is nothing to be committed.
    pub(crate) fn is_empty(&self) -> bool {
        self.consumed.is_empty() && self.outcomes.is_empty() && self.steps.iter().all(|step| step.events.is_empty())
    }
}

/// The policy by which a turn is committed: the new work that this node runs itself.
pub(crate) trait Claims {
    /// Returns true if this node runs the activity itself, at once, and takes a permit for it.
    fn activity(&mut self, name: &str, tag: Option<&str>) -> bool;
    /// Releases the permit of an activity that is not run after all.
    fn release(&mut self, name: &str);
    /// Returns true if this node has the code for the orchestration.
    fn orchestration(&self, name: &str, version: Option<&Version>) -> bool;
}

/// Builds the commit of a turn from its decisions. Returns the activities as well that this node begins once the turn is
/// stored.
pub(crate) fn turn(info: &TurnInfo<'_>, output: TurnOutput, claims: &mut dyn Claims) -> (Turn, Vec<ScheduledActivity>) {
    let TurnOutput { steps, consumed, outcomes, carried, leftovers, waits, .. } = output;
    let mut builder = TurnBuilder::new(info, claims);
    (builder.carried, builder.leftovers) = (carried, leftovers);
    (builder.turn.consumed, builder.turn.outcomes) = (consumed, outcomes);
    builder.turn.waits = waits;
    for step in steps {
        if let Some((call, op)) = &step.resolved {
            builder.resolved(*call, op, step.input());
        }
        for (call, op) in step.dropped {
            builder.dropped(call, op);
        }
        for event in step.events {
            builder.event(event);
        }
    }
    for (call, op) in std::mem::take(&mut builder.leftovers.open) {
        builder.close_open_call(call, op);
    }
    (builder.turn, builder.eager)
}

/// Returns a turn that only suspends the instance.
pub(crate) fn suspension(
    execution: &ExecutionId,
    committed: EventId,
    (reason, cause): (String, String),
    now: Timestamp,
) -> Turn {
    let turn = Turn::new(execution.clone(), committed, now);
    Turn { then: Then::Suspend { reason }, cause: Some(cause), ..turn }
}

/// The policy of a write from outside: it starts no work.
struct NoClaims;

impl Claims for NoClaims {
    fn activity(&mut self, _: &str, _: Option<&str>) -> bool {
        false
    }

    fn release(&mut self, _: &str) {}

    fn orchestration(&self, _: &str, _: Option<&Version>) -> bool {
        false
    }
}

struct TurnBuilder<'a> {
    info: &'a TurnInfo<'a>,
    claims: &'a mut dyn Claims,
    turn: Turn,
    eager: Vec<ScheduledActivity>,
    carried: Vec<MessageRow>,
    leftovers: Leftovers,
}

impl<'a> TurnBuilder<'a> {
    fn new(info: &'a TurnInfo<'a>, claims: &'a mut dyn Claims) -> Self {
        let turn = Turn::new(info.execution.clone(), info.committed, info.now);
        let turn = Turn { version: Some(info.version.clone()), ..turn };
        Self { info, claims, turn, eager: Vec::new(), carried: Vec::new(), leftovers: Leftovers::default() }
    }

    /// Adds an event, and the effect of the decision.
    fn event(&mut self, event: HistoryEvent) {
        self.turn.events.push(EventRow::from(&event));
        let HistoryEvent { id, time, kind, payload, .. } = event;
        let EventKind::Decision(decision) = kind else { return };
        match decision {
            Decision::ActivityScheduled(activity) => self.schedule_activity(id, time, activity, payload),
            Decision::TimerCreated { call, due } => self.create_timer(call, due),
            Decision::ChildScheduled(child) => self.schedule_child(*child, payload),
            Decision::Completed => self.complete(payload),
            Decision::Failed { failure } => self.fail(InstanceStatus::Failed, failure, payload),
            Decision::Cancelled { reason } => {
                self.fail(InstanceStatus::Cancelled, Failure::Cancelled { reason }, Payload::NULL);
            }
            Decision::Terminated { reason, .. } => {
                self.fail(InstanceStatus::Terminated, Failure::Terminated { reason }, Payload::NULL);
            }
            Decision::ContinuedAsNew { version } => self.continue_as_new(version, payload),
            Decision::EventAwaited { .. } | Decision::CallRejected { .. } | Decision::CallDropped { .. } => {}
        }
    }

    /// Removes the rest of a call that has its outcome.
    fn resolved(&mut self, call: CallId, op: &Op, event: Option<&HistoryEvent>) {
        match op {
            Op::Activity { deadline: true, .. } => self.activity_resolved(call, event),
            Op::Activity { .. } | Op::Timer | Op::Event | Op::Child { .. } | Op::DetachedStart | Op::Refused => {}
        }
    }

    /// Removes the rest of a call whose future was dropped.
    fn dropped(&mut self, call: CallId, op: Op) {
        match op {
            Op::Activity { deadline, .. } => self.activity_dropped(call, deadline),
            Op::Timer => self.cancel_timer(call),
            Op::Child { instance, close } => self.child_dropped(call, instance, close),
            Op::Event | Op::DetachedStart | Op::Refused => {}
        }
    }

    /// Closes a call that has no outcome when the execution ends. The activities and timers of the execution are
    /// removed with it.
    fn close_open_call(&mut self, call: CallId, op: Op) {
        match op {
            Op::Activity { detached, .. } => self.close_open_activity(call, detached),
            Op::Child { instance, close } => self.close_open_child(call, instance, close),
            Op::Timer | Op::Event | Op::DetachedStart | Op::Refused => {}
        }
    }

    fn send_to_self(&mut self, message: Message) {
        let ExecutionId { instance, identity, .. } = self.info.execution;
        self.send(instance.clone(), Some(*identity), message);
    }

    fn send(&mut self, to: InstanceId, identity: Option<Identity>, message: Message) {
        self.turn.messages.push(Outgoing { to, identity, message: MessageRow::from(&message) });
    }
}
