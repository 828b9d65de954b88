//! The places at which a reset or a fork cuts a history, described without knowing it.

use std::collections::HashSet;
use std::fmt;

use crate::effect::graft::legal_cuts;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::{CallId, EventId};

/// The place at which a [reset](crate::Handle::reset) or a [fork](crate::Client::fork) cuts a history: the events up to there
/// are kept. An [`EventId`] converts into it.
///
/// A history is cut after a whole step, which did not end its execution. So the last activity of a history is the last one
/// whose result did not end it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutPoint {
    /// After this event.
    Event(EventId),
    /// At the beginning: the function runs from scratch, in its latest version.
    Start,
    /// Before the step of the first failure: of an activity, a child, a start, or the function itself. The call that failed is
    /// open there, so an activity runs again, with all its attempts.
    BeforeFirstFailure,
    /// After the step of the last activity that returned `Ok`: of this name, or any.
    LastActivity(Option<String>),
    /// After the step of the last child that returned `Ok`: of an orchestration of this name, or any.
    LastChild(Option<String>),
    /// After the step of the last external event: of this name, or any.
    LastEvent(Option<String>),
    /// After the step of the last timer that was due.
    LastTimer,
}

impl From<EventId> for CutPoint {
    fn from(event: EventId) -> Self {
        Self::Event(event)
    }
}

impl fmt::Display for CutPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Event(event) => return write!(f, "event {event}"),
            Self::Start => return f.write_str("the start"),
            Self::BeforeFirstFailure => return f.write_str("before the first failure"),
            Self::LastTimer => return f.write_str("the last timer"),
            Self::LastActivity(name) => ("activity", name),
            Self::LastChild(name) => ("child", name),
            Self::LastEvent(name) => ("event", name),
        };
        match name {
            Some(name) => write!(f, "the last {kind} {name:?}"),
            None => write!(f, "the last {kind}"),
        }
    }
}

impl CutPoint {
    /// Returns the last event that is kept. `None`: the history has no such place.
    pub(super) fn find(&self, history: &[HistoryEvent]) -> Option<EventId> {
        match self {
            Self::Event(event) => return Some(*event),
            Self::Start => return Some(EventId(0)),
            _ => {}
        }
        let legal = legal_cuts(history);
        if *self == Self::BeforeFirstFailure {
            let failure = history.iter().find(|event| is_failure(event))?;
            return legal.range(..failure.id).next_back().copied();
        }
        let calls = self.calls(history);
        // The step of an event ends before the next input. If it has ended the execution, there is no cut after it.
        let mut wanted = history.iter().rev().filter(|event| self.matches(event, &calls));
        wanted.find_map(|event| legal.range(event.id..).next().copied())
    }

    /// Returns the calls of the kind and the name that are wanted.
    fn calls(&self, history: &[HistoryEvent]) -> HashSet<CallId> {
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let call = |event: &HistoryEvent| match (self, &event.kind) {
            (Self::LastActivity(wanted), EventKind::Decision(Decision::ActivityScheduled(activity))) => {
                is(wanted, &activity.name).then_some(activity.call)
            }
            (Self::LastChild(wanted), EventKind::Decision(Decision::ChildScheduled(child))) => {
                is(wanted, &child.name).then_some(child.call)
            }
            _ => None,
        };
        history.iter().filter_map(call).collect()
    }

    /// Returns true if an event is of the kind that is wanted, and one of these calls.
    fn matches(&self, event: &HistoryEvent, calls: &HashSet<CallId>) -> bool {
        match (self, &event.kind) {
            (Self::LastActivity(_), EventKind::Input(Input::ActivityCompleted { call, .. })) => calls.contains(call),
            (Self::LastChild(_), EventKind::Input(Input::ChildCompleted { call })) => calls.contains(call),
            (Self::LastEvent(wanted), EventKind::Input(Input::EventRaised { name, .. })) => {
                wanted.as_ref().is_none_or(|wanted| wanted == name)
            }
            (Self::LastTimer, EventKind::Input(Input::TimerFired { .. })) => true,
            _ => false,
        }
    }
}

fn is_failure(event: &HistoryEvent) -> bool {
    match &event.kind {
        EventKind::Decision(decision) => matches!(decision, Decision::Failed { .. }),
        EventKind::Input(input) => match input {
            Input::ActivityFailed { .. } | Input::ChildFailed { .. } | Input::StartRejected { .. } => true,
            Input::Started(_)
            | Input::ActivityCompleted { .. }
            | Input::TimerFired { .. }
            | Input::EventRaised { .. }
            | Input::EventDropped { .. }
            | Input::ChildCompleted { .. }
            | Input::StartAccepted { .. }
            | Input::CancelRequested { .. }
            | Input::TerminateRequested { .. } => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::history::{ActivityScheduled, ChildScheduled, Failure};
    use crate::payload::Payload;
    use crate::policy::{ActivityOptions, ClosePolicy};

    fn history(kinds: Vec<EventKind>) -> Vec<HistoryEvent> {
        let (time, payload) = (Timestamp::from_micros(0), Payload::NULL);
        let event = |(id, kind)| HistoryEvent { id: EventId(id), time, kind, payload: payload.clone(), at: None };
        (1..).zip(kinds).map(event).collect()
    }

    fn scheduled(call: u64, name: &str) -> EventKind {
        EventKind::Decision(Decision::ActivityScheduled(Box::new(ActivityScheduled {
            call: CallId(call),
            name: name.to_owned(),
            tag: None,
            detached: false,
            options: ActivityOptions::new(),
        })))
    }

    fn completed(call: u64) -> EventKind {
        EventKind::Input(Input::ActivityCompleted { call: CallId(call), run: None })
    }

    fn failed(call: u64) -> EventKind {
        let (call, failure) = (CallId(call), Failure::Application);
        EventKind::Input(Input::ActivityFailed { call, failure, callee: None, run: None })
    }

    fn child(call: u64) -> EventKind {
        EventKind::Decision(Decision::ChildScheduled(Box::new(ChildScheduled {
            call: CallId(call),
            name: "ship".to_owned(),
            version: None,
            instance: None,
            detached: false,
            close: ClosePolicy::Cancel,
        })))
    }

    fn raised(name: &str) -> EventKind {
        EventKind::Input(Input::raised(name))
    }

    #[test]
    fn cut_point_is_found_in_the_history() {
        let timer = EventKind::Decision(Decision::TimerCreated { call: CallId(3), due: Timestamp::from_micros(5) });
        let end = EventKind::Decision(Decision::Failed { failure: Failure::Application });
        let history = history(vec![
            raised("start"), // 1: stands for a start
            scheduled(1, "charge"),
            completed(1), // 3
            scheduled(2, "print"),
            raised("note"), // 5
            completed(2),   // 6
            timer,
            child(4),
            EventKind::Input(Input::TimerFired { call: CallId(3) }), // 9
            EventKind::Input(Input::ChildCompleted { call: CallId(4) }), // 10
            scheduled(5, "charge"),
            failed(5), // 12
            scheduled(6, "charge"),
            completed(6), // 14: ends the execution
            end,
        ]);
        let some = |name: &str| Some(name.to_owned());
        let cases = [
            (CutPoint::Event(EventId(99)), Some(99)),
            (CutPoint::Start, Some(0)),
            (CutPoint::BeforeFirstFailure, Some(11)),
            (CutPoint::LastActivity(None), Some(8)),
            (CutPoint::LastActivity(some("print")), Some(8)),
            (CutPoint::LastActivity(some("charge")), Some(4)),
            (CutPoint::LastActivity(some("ship")), None),
            (CutPoint::LastChild(None), Some(11)),
            (CutPoint::LastChild(some("ship")), Some(11)),
            (CutPoint::LastChild(some("charge")), None),
            (CutPoint::LastEvent(None), Some(5)),
            (CutPoint::LastEvent(some("start")), Some(2)),
            (CutPoint::LastEvent(some("other")), None),
            (CutPoint::LastTimer, Some(9)),
        ];
        for (point, event) in cases {
            assert_eq!(point.find(&history), event.map(EventId), "{point}");
        }
        let before_the_failure = &history[..11];
        assert_eq!(CutPoint::BeforeFirstFailure.find(before_the_failure), None);
        // The function itself has failed, in its last step.
        let own = [&history[..6], &history[14..]].concat();
        assert_eq!(CutPoint::BeforeFirstFailure.find(&own), Some(EventId(5)));
    }
}
