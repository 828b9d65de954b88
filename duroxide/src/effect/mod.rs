//! Turns the decisions of a turn into a commit: the one place where events get their effects.

use std::time::Duration;

use semver::Version;

use super::turn::TurnOutput;
use crate::clock::Timestamp;
use crate::history::{
    ActivityScheduled, ChildScheduled, ClosePolicy, Decision, Event, EventKind, Failure, Input, Parent, Started,
    Timeout,
};
use crate::id::{CallId, EventId, ExecutionId, Identity, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::provider::{
    EventRow, InstanceRecord, InstanceStatus, MessageRow, NewActivity, NewChild, NewInstance, Outgoing, Then, Turn,
};
use crate::replay::op::Op;
use crate::replay::{Remains, Unread};

/// The instance and the time of a turn.
pub(super) struct TurnInfo<'a> {
    pub(super) execution: &'a ExecutionId,
    pub(super) version: &'a Version,
    pub(super) committed: EventId,
    pub(super) started: &'a Started,
    pub(super) now: Timestamp,
}

/// The policy by which a turn is committed: the new work that this node runs itself.
pub(super) trait Claims {
    /// Returns true if this node runs the activity itself, at once, and reserves a place for it.
    fn activity(&mut self, name: &str, tag: Option<&str>) -> bool;
    /// Frees the place of an activity that is not run after all.
    fn release(&mut self, name: &str);
    /// Returns true if this node has the code for the orchestration.
    fn orchestration(&self, name: &str, version: Option<&Version>) -> bool;
}

/// Builds the commit of a turn from its decisions.
pub(super) fn turn(info: &TurnInfo<'_>, output: TurnOutput, claims: &mut dyn Claims) -> Turn {
    let mut builder = TurnBuilder { info, claims, turn: empty(info), carried: output.carried, remains: output.remains };
    builder.turn.consumed = output.consumed;
    builder.turn.outcomes = output.outcomes;
    for step in output.steps {
        if let Some((call, op)) = &step.resolved {
            builder.resolved(*call, op, step.events.first());
        }
        for (call, op) in step.dropped {
            builder.dropped(call, op);
        }
        for event in step.events {
            builder.event(event);
        }
    }
    for (call, op) in std::mem::take(&mut builder.remains.open) {
        builder.close_open_call(call, op);
    }
    builder.turn
}

/// Returns a turn that only suspends the instance.
pub(super) fn suspension(execution: &ExecutionId, committed: EventId, reason: String, now: Timestamp) -> Turn {
    Turn { then: Then::Suspend { reason }, ..Turn::new(execution.clone(), committed, now) }
}

fn empty(info: &TurnInfo<'_>) -> Turn {
    let turn = Turn::new(info.execution.clone(), info.committed, info.now);
    Turn { version: Some(info.version.clone()), ..turn }
}

struct TurnBuilder<'a> {
    info: &'a TurnInfo<'a>,
    claims: &'a mut dyn Claims,
    turn: Turn,
    carried: Vec<MessageRow>,
    remains: Remains,
}

impl TurnBuilder<'_> {
    /// Removes the rest of a call that has its outcome: the activity after a timeout, or else its deadline.
    fn resolved(&mut self, call: CallId, op: &Op, event: Option<&Event>) {
        let Op::Activity { deadline: true, .. } = op else { return };
        let limit = match event.map(|event| &event.kind) {
            Some(EventKind::Input(Input::ActivityFailed { failure: Failure::TimedOut { limit }, .. })) => Some(*limit),
            _ => None,
        };
        if limit == Some(Timeout::ScheduleToClose) {
            self.turn.cancelled_activities.push(call);
        } else {
            self.turn.cancelled_messages.push(call);
        }
    }

    /// Removes the rest of a call that was dropped.
    fn dropped(&mut self, call: CallId, op: Op) {
        match op {
            Op::Activity { deadline, .. } => {
                if !self.remove_scheduled(call) {
                    self.turn.cancelled_activities.push(call);
                }
                if deadline {
                    self.cancel_timer(call);
                }
            }
            Op::Timer => self.cancel_timer(call),
            Op::Child { instance, close } => self.close(call, instance, close, "its call was dropped".to_owned()),
            Op::Event | Op::DetachedStart | Op::Refused => {}
        }
    }

    /// Removes an activity that an earlier step of this turn has scheduled. Returns false if there is none.
    fn remove_scheduled(&mut self, call: CallId) -> bool {
        let Some(index) = self.turn.activities.iter().position(|activity| activity.call == call) else { return false };
        let activity = self.turn.activities.remove(index);
        if activity.eager {
            self.claims.release(&activity.name);
        }
        true
    }

    /// Removes a timer or a deadline, also one that an earlier step of this turn has created.
    fn cancel_timer(&mut self, call: CallId) {
        let own = &self.info.execution.instance;
        let before = self.turn.messages.len();
        self.turn.messages.retain(|outgoing| outgoing.to != *own || outgoing.message.call != Some(call));
        if self.turn.messages.len() == before {
            self.turn.cancelled_messages.push(call);
        }
    }

    /// Closes a call that has no outcome when the execution ends. Its activities and timers are removed with the
    /// execution.
    fn close_open_call(&mut self, call: CallId, op: Op) {
        match op {
            Op::Child { instance, close } => {
                self.close(call, instance, close, format!("its parent {} has ended", self.info.execution));
            }
            Op::Activity { detached: false, .. } => {
                self.remove_scheduled(call);
            }
            _ => {}
        }
    }

    /// Closes a child whose outcome is no longer wanted. The message names the parent, since the id may be that of
    /// another instance: then the start was refused, and the refusal is on its way.
    fn close(&mut self, call: CallId, child: InstanceId, policy: ClosePolicy, reason: String) {
        let parent = Some(Parent { execution: self.info.execution.clone(), call });
        let input = match policy {
            ClosePolicy::Cancel => Input::CancelRequested { reason, parent },
            ClosePolicy::Terminate => Input::TerminateRequested { reason, parent },
            ClosePolicy::Abandon => return,
        };
        let before = self.turn.starts.len();
        self.turn.starts.retain(|start| start.new.parent.as_ref().is_none_or(|parent| parent.call != call));
        if self.turn.starts.len() < before {
            // An earlier step of this turn has scheduled the child: it is never created.
            return;
        }
        self.send(child, None, Message::new(input, Payload::NULL));
    }

    fn event(&mut self, event: Event) {
        self.turn.events.push(EventRow::from(&event));
        let Event { id, time, kind, payload } = event;
        let EventKind::Decision(decision) = kind else { return };
        match decision {
            Decision::ActivityScheduled(activity) => self.activity(id, time, activity),
            Decision::TimerCreated { call, due } => self.timer(call, due, Input::TimerFired { call }),
            Decision::ChildScheduled(child) => self.child(child, payload),
            Decision::Completed => self.end(InstanceStatus::Completed, |call| Input::ChildCompleted { call }, payload),
            Decision::Failed { failure } => self.end_without(InstanceStatus::Failed, failure, payload),
            Decision::Cancelled { reason } => {
                self.end_without(InstanceStatus::Cancelled, Failure::Cancelled { reason }, Payload::NULL);
            }
            Decision::Terminated { reason } => {
                self.end_without(InstanceStatus::Terminated, Failure::Terminated { reason }, Payload::NULL);
            }
            Decision::ContinuedAsNew { version } => self.continue_as_new(version, payload),
            Decision::EventAwaited { .. } | Decision::CallRejected { .. } | Decision::CallDropped { .. } => {}
        }
    }

    fn activity(&mut self, scheduled: EventId, time: Timestamp, activity: ActivityScheduled) {
        let ActivityScheduled { call, name, tag, detached, options } = activity;
        if let Some(limit) = options.schedule_to_close {
            let failure = Failure::TimedOut { limit: Timeout::ScheduleToClose };
            self.timer(call, time + limit, Input::ActivityFailed { call, failure });
        }
        let eager = self.claims.activity(&name, tag.as_deref());
        let headers = self.info.started.headers.clone();
        self.turn.activities.push(NewActivity { call, scheduled, name, tag, detached, eager, headers });
    }

    /// Sends a message to this execution, due at a time.
    fn timer(&mut self, call: CallId, due: Timestamp, input: Input) {
        debug_assert_eq!(input.call(), Some(call), "a timer is removed by its call");
        // `Timestamp::MAX` means "never": no message is stored.
        if due < Timestamp::MAX {
            let number = self.info.execution.number;
            let message = Message::new(input, Payload::NULL).for_execution(number).visible_at(due);
            self.send_to_self(message);
        }
    }

    fn child(&mut self, child: ChildScheduled, input: Payload) {
        let ChildScheduled { call, name, version, instance, detached, .. } = child;
        let execution = self.info.execution;
        let answer = |input| MessageRow::from(&Message::new(input, Payload::NULL).for_execution(execution.number));
        let parent = (!detached).then(|| Parent { execution: execution.clone(), call });
        let reason = format!("instance id {instance:?} is taken");
        let eager = self.claims.orchestration(&name, version.as_ref());
        let headers = self.info.started.headers.clone();
        let new = new_instance(instance, name, version, input, parent, headers, Default::default(), eager);
        self.turn.starts.push(NewChild {
            new,
            accepted: detached.then(|| answer(Input::StartAccepted { call })),
            if_taken: answer(Input::StartRejected { call, reason }),
        });
    }

    fn end(&mut self, status: InstanceStatus, answer: impl FnOnce(CallId) -> Input, payload: Payload) {
        self.turn.then = Then::Finish { status };
        if let Some(parent) = &self.info.started.parent {
            let message = Message::new(answer(parent.call), payload).for_execution(parent.execution.number);
            let ExecutionId { instance, identity, .. } = &parent.execution;
            self.send(instance.clone(), Some(*identity), message);
        }
    }

    fn end_without(&mut self, status: InstanceStatus, failure: Failure, error: Payload) {
        self.end(status, |call| Input::ChildFailed { call, failure }, error);
    }

    fn continue_as_new(&mut self, version: Option<Version>, input: Payload) {
        self.turn.then = Then::ContinueAsNew { version: version.clone() };
        let next = self.info.execution.number + 1;
        let mut started = self.info.started.clone();
        started.version = version;
        started.seed = crate::random::bits();
        let start = Message::new(Input::Started(started), input).in_lane(Lane::Start).for_execution(next);
        self.send_to_self(start);
        if let Some(reason) = self.remains.cancel.take() {
            let cancel = Input::CancelRequested { reason, parent: None };
            self.send_to_self(Message::new(cancel, Payload::NULL).in_lane(Lane::Carried));
        }
        for (name, Unread { payload, headers }) in std::mem::take(&mut self.remains.unread) {
            let input = Input::EventRaised { name, headers };
            self.send_to_self(Message::new(input, payload).in_lane(Lane::Carried));
        }
        for row in std::mem::take(&mut self.carried) {
            let ExecutionId { instance: to, identity, .. } = self.info.execution.clone();
            let message = MessageRow { id: MessageId::new(), number: None, ..row };
            self.turn.messages.push(Outgoing { to, identity: Some(identity), message });
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

/// Builds the turn that ends an execution from outside. It is derived from the history alone, since the code is not
/// run.
pub(crate) fn termination(record: &InstanceRecord, history: &[Event], reason: &str, now: Timestamp) -> Turn {
    let now = history.last().map_or(now, |last| now.max(last.time));
    let turn = Turn::new(record.execution.clone(), record.last_event, now);
    let turn = Turn { version: record.version.clone(), ..turn };
    let kind = EventKind::Decision(Decision::Terminated { reason: reason.to_owned() });
    let event = Event { id: record.last_event.next(), time: now, kind, payload: Payload::NULL };
    let started = history.iter().find_map(|event| match &event.kind {
        EventKind::Input(Input::Started(started)) => Some(started.clone()),
        _ => None,
    });
    let started = started.unwrap_or_else(|| Started {
        name: record.name.clone(),
        version: None,
        seed: 0,
        parent: record.parent.clone(),
        headers: Default::default(),
        labels: Default::default(),
    });
    let version = record.version.clone().unwrap_or_else(|| Version::new(0, 0, 0));
    let info = TurnInfo {
        execution: &record.execution,
        version: &version,
        committed: record.last_event,
        started: &started,
        now,
    };
    let mut builder =
        TurnBuilder { info: &info, claims: &mut NoClaims, turn, carried: Vec::new(), remains: Remains::default() };
    builder.event(event);
    for (call, op) in crate::replay::open_children(history) {
        builder.close_open_call(call, op);
    }
    builder.turn
}

/// The policy of an end from outside: it starts no work.
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

/// Makes a new instance with the message that starts it.
#[expect(clippy::too_many_arguments, reason = "each is a fact of the new instance, and both callers have them apart")]
pub(crate) fn new_instance(
    instance: InstanceId,
    name: String,
    version: Option<Version>,
    input: Payload,
    parent: Option<Parent>,
    headers: crate::history::TextMap,
    labels: crate::history::TextMap,
    eager: bool,
) -> NewInstance {
    let started = Started {
        name: name.clone(),
        version: version.clone(),
        seed: crate::random::bits(),
        parent: parent.clone(),
        headers,
        labels: labels.clone(),
    };
    let start = Message::new(Input::Started(started), input).in_lane(Lane::Start);
    NewInstance { instance, name, version, labels, parent, start: MessageRow::from(&start), eager }
}

/// Returns the pause before the next attempt, shortened at random by up to a tenth.
pub(super) fn jittered(pause: Duration) -> Duration {
    super::backoff::shorten(pause, 0.1)
}
