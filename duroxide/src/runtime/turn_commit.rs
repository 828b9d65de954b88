//! Turns what a turn decided into what is committed: the one place where events get their effects.

use std::time::Duration;

use semver::Version;

use super::turn::Output;
use crate::clock::Timestamp;
use crate::history::{
    ActivityScheduled, ChildScheduled, ClosePolicy, Decision, Event, EventKind, Failure, Input, Parent, Started,
    Timeout,
};
use crate::id::{CallId, EventId, ExecutionId, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::provider::{
    EventRow, InstanceRecord, InstanceStatus, MessageRow, NewActivity, NewChild, NewInstance, Outgoing, Then, Turn,
};
use crate::replay::op::Op;
use crate::replay::{Remains, Unread};

/// What a turn needs to know of its instance.
pub(super) struct About<'a> {
    pub(super) execution: &'a ExecutionId,
    pub(super) version: &'a Version,
    pub(super) committed: EventId,
    pub(super) started: &'a Started,
    pub(super) now: Timestamp,
}

/// What the node decides while a turn is written: which new work it takes on itself.
pub(super) trait Admission {
    /// Whether this node runs the activity itself, at once.
    fn activity(&mut self, name: &str, tag: Option<&str>) -> bool;
    /// The place that was given to an activity is free again: it is not run after all.
    fn release(&mut self, name: &str);
    /// Whether this node has the code for the orchestration.
    fn orchestration(&self, name: &str, version: Option<&Version>) -> bool;
}

/// Writes down what a turn decided.
pub(super) fn turn(about: &About<'_>, output: Output, admission: &mut dyn Admission) -> Turn {
    let mut writing =
        Writing { about, admission, turn: empty(about), carried: output.carried, remains: output.remains };
    writing.turn.consumed = output.consumed;
    writing.turn.outcomes = output.outcomes;
    for step in output.steps {
        if let Some((call, op)) = &step.resolved {
            writing.resolved(*call, op, step.events.first());
        }
        for (call, op) in step.dropped {
            writing.dropped(call, op);
        }
        for event in step.events {
            writing.event(event);
        }
    }
    for (call, op) in std::mem::take(&mut writing.remains.open) {
        writing.left_open(call, op);
    }
    writing.turn
}

/// A turn that only suspends the instance.
pub(super) fn suspension(execution: &ExecutionId, committed: EventId, reason: String, now: Timestamp) -> Turn {
    Turn { then: Then::Suspend { reason }, ..Turn::new(execution.clone(), committed, now) }
}

fn empty(about: &About<'_>) -> Turn {
    let turn = Turn::new(about.execution.clone(), about.committed, about.now);
    Turn { version: Some(about.version.clone()), ..turn }
}

struct Writing<'a> {
    about: &'a About<'a>,
    admission: &'a mut dyn Admission,
    turn: Turn,
    carried: Vec<MessageRow>,
    remains: Remains,
}

impl Writing<'_> {
    /// What belongs to a call that now has its outcome.
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

    /// What belongs to a call that was dropped.
    fn dropped(&mut self, call: CallId, op: Op) {
        match op {
            Op::Activity { deadline, .. } => {
                if !self.unschedule(call) {
                    self.turn.cancelled_activities.push(call);
                }
                if deadline {
                    self.take_back(call);
                }
            }
            Op::Timer => self.take_back(call),
            Op::Child { instance, close } => self.close(call, instance, close, "its call was dropped".to_owned()),
            Op::Event | Op::DetachedStart | Op::Refused => {}
        }
    }

    /// Removes an activity that an earlier step of this very turn has scheduled: it never comes to be.
    fn unschedule(&mut self, call: CallId) -> bool {
        let Some(index) = self.turn.activities.iter().position(|activity| activity.call == call) else { return false };
        let activity = self.turn.activities.remove(index);
        if activity.eager {
            self.admission.release(&activity.name);
        }
        true
    }

    /// Takes back a timer or a deadline, also one that an earlier step of this very turn has created.
    fn take_back(&mut self, call: CallId) {
        let own = &self.about.execution.instance;
        let before = self.turn.messages.len();
        self.turn.messages.retain(|outgoing| outgoing.to != *own || outgoing.message.call != Some(call));
        if self.turn.messages.len() == before {
            self.turn.cancelled_messages.push(call);
        }
    }

    /// What belongs to a call that has no outcome when the execution ends. Its activities and timers go with it.
    fn left_open(&mut self, call: CallId, op: Op) {
        match op {
            Op::Child { instance, close } => {
                self.close(call, instance, close, format!("its parent {} has ended", self.about.execution));
            }
            Op::Activity { detached: false, .. } => {
                self.unschedule(call);
            }
            _ => {}
        }
    }

    /// Nobody waits for a child any more. It names itself as the parent, since the id may be that of another instance: then
    /// the start was refused, and the refusal is on its way.
    fn close(&mut self, call: CallId, child: InstanceId, policy: ClosePolicy, reason: String) {
        let parent = Some(Parent { execution: self.about.execution.clone(), call });
        let input = match policy {
            ClosePolicy::Cancel => Input::CancelRequested { reason, parent },
            ClosePolicy::Terminate => Input::TerminateRequested { reason, parent },
            ClosePolicy::Abandon => return,
        };
        let before = self.turn.starts.len();
        self.turn.starts.retain(|start| start.new.parent.as_ref().is_none_or(|parent| parent.call != call));
        if self.turn.starts.len() < before {
            // An earlier step of this very turn has scheduled it: it never comes to be.
            return;
        }
        self.send(child, Message::new(input, Payload::NULL));
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
        let eager = self.admission.activity(&name, tag.as_deref());
        let headers = self.about.started.headers.clone();
        self.turn.activities.push(NewActivity { call, scheduled, name, tag, detached, eager, headers });
    }

    /// A message to this execution at a time.
    fn timer(&mut self, call: CallId, due: Timestamp, input: Input) {
        debug_assert_eq!(input.call(), Some(call), "a timer is taken back by its call");
        // What is due at the end of time is never due.
        if due < Timestamp::MAX {
            let number = self.about.execution.number;
            let message = Message::new(input, Payload::NULL).for_execution(number).visible_at(due);
            self.send(self.about.execution.instance.clone(), message);
        }
    }

    fn child(&mut self, child: ChildScheduled, input: Payload) {
        let ChildScheduled { call, name, version, instance, detached, .. } = child;
        let execution = self.about.execution;
        let answer = |input| MessageRow::from(&Message::new(input, Payload::NULL).for_execution(execution.number));
        let parent = (!detached).then(|| Parent { execution: execution.clone(), call });
        let reason = format!("instance id {instance:?} is taken");
        let eager = self.admission.orchestration(&name, version.as_ref());
        let headers = self.about.started.headers.clone();
        let new = new_instance(instance, name, version, input, parent, headers, Default::default(), eager);
        self.turn.starts.push(NewChild {
            new,
            accepted: detached.then(|| answer(Input::StartAccepted { call })),
            otherwise: answer(Input::StartRejected { call, reason }),
        });
    }

    fn end(&mut self, status: InstanceStatus, answer: impl FnOnce(CallId) -> Input, payload: Payload) {
        self.turn.then = Then::Finish { status };
        if let Some(parent) = &self.about.started.parent {
            let message = Message::new(answer(parent.call), payload).for_execution(parent.execution.number);
            self.send(parent.execution.instance.clone(), message);
        }
    }

    fn end_without(&mut self, status: InstanceStatus, failure: Failure, error: Payload) {
        self.end(status, |call| Input::ChildFailed { call, failure }, error);
    }

    fn continue_as_new(&mut self, version: Option<Version>, input: Payload) {
        self.turn.then = Then::ContinueAsNew { version: version.clone() };
        let next = self.about.execution.number + 1;
        let mut started = self.about.started.clone();
        started.version = version;
        started.seed = crate::random::bits();
        let own = self.about.execution.instance.clone();
        let start = Message::new(Input::Started(started), input).in_lane(Lane::Start).for_execution(next);
        self.send(own.clone(), start);
        if let Some(reason) = self.remains.cancel.take() {
            self.send(
                own.clone(),
                Message::new(Input::CancelRequested { reason, parent: None }, Payload::NULL).in_lane(Lane::Carried),
            );
        }
        for (name, Unread { payload, headers }) in std::mem::take(&mut self.remains.unread) {
            let input = Input::EventRaised { name, headers };
            self.send(own.clone(), Message::new(input, payload).in_lane(Lane::Carried));
        }
        for mut row in std::mem::take(&mut self.carried) {
            row.id = MessageId::new();
            self.turn.messages.push(Outgoing { to: own.clone(), message: row });
        }
    }

    fn send(&mut self, to: InstanceId, message: Message) {
        self.turn.messages.push(Outgoing { to, message: MessageRow::from(&message) });
    }
}

/// The end of an execution from outside: told by its history alone, since its code is not run again.
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
    let about =
        About { execution: &record.execution, version: &version, committed: record.last_event, started: &started, now };
    let mut writing =
        Writing { about: &about, admission: &mut NoAdmission, turn, carried: Vec::new(), remains: Remains::default() };
    writing.event(event);
    for (call, op) in crate::replay::open_children(history) {
        writing.left_open(call, op);
    }
    writing.turn
}

/// Whoever ends an execution from outside takes on nothing.
struct NoAdmission;

impl Admission for NoAdmission {
    fn activity(&mut self, _: &str, _: Option<&str>) -> bool {
        false
    }

    fn release(&mut self, _: &str) {}

    fn orchestration(&self, _: &str, _: Option<&Version>) -> bool {
        false
    }
}

/// A new instance with the message that starts it.
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

/// The pause before the next attempt, as the policy says, shortened at random by up to a tenth.
pub(super) fn jittered(pause: Duration) -> Duration {
    super::backoff::shorten(pause, 0.1)
}
