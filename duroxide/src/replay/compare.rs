//! Compares the decisions of a replay with the recorded ones.

use super::Fault;
use super::core::MAX_OPERATION;
use super::op::{Decided, activity, child, event, timer};
use crate::error::{shortened, shortened_to};
use crate::history::{Decision, EventKind, Failure, HistoryEvent, Input};
use crate::id::EventId;
use crate::payload::Payload;

/// Compares the decisions of one step, both sorted by call. `next`: the event that follows the step in the history.
pub(super) fn step(
    input: EventId,
    recorded: &[HistoryEvent],
    asked: &[Decided],
    next: Option<&HistoryEvent>,
) -> Result<(), Fault> {
    let early_end = early_end(recorded, asked);
    let mut asked = asked.iter();
    for event in recorded {
        let EventKind::Decision(decision) = &event.kind else { continue };
        let Some(other) = asked.next() else {
            return Err(match early_end {
                Some(end) => left_over(event, end),
                None => Fault::mismatch(event.id, Some(describe(decision)), None),
            });
        };
        if !same(decision, &event.payload, other) {
            if let Some(end) = early_end.filter(|_| belongs_to_end(other)) {
                return Err(left_over(event, end));
            }
            let asked = describe_beside(decision, &event.payload, other);
            return Err(Fault::mismatch(event.id, Some(describe(decision)), Some(asked)).at(other.place));
        }
    }
    match asked.next() {
        None => Ok(()),
        Some(extra) => {
            if let (Some(end), Some(event)) = (early_end.filter(|_| belongs_to_end(extra)), next) {
                return Err(left_over(event, end));
            }
            let position = recorded.last().map_or(input, |event| event.id).next();
            Err(Fault::mismatch(position, None, Some(describe(&extra.decision))).at(extra.place))
        }
    }
}

/// Returns the end of the function, a return or continue-as-new, if the recorded history does not end with this step.
fn early_end<'a>(recorded: &[HistoryEvent], asked: &'a [Decided]) -> Option<&'a Decided> {
    let history_ends =
        matches!(recorded.last(), Some(HistoryEvent { kind: EventKind::Decision(d), .. }) if d.is_terminal());
    asked.last().filter(|last| is_end_of_code(&last.decision) && !history_ends)
}

fn is_end_of_code(decision: &Decision) -> bool {
    matches!(decision, Decision::Completed | Decision::Failed { .. } | Decision::ContinuedAsNew { .. })
}

/// Returns true for an end, and for the drop of a call, which an early return causes.
fn belongs_to_end(asked: &Decided) -> bool {
    is_end_of_code(&asked.decision) || matches!(asked.decision, Decision::CallDropped { .. })
}

fn left_over(event: &HistoryEvent, end: &Decided) -> Fault {
    let ended = format!("the code ended here: {}", describe(&end.decision));
    Fault::left_over(event.id, describe_event(&event.kind), ended).at(end.place)
}

/// Returns the fault of a history that continues after the end of its execution.
pub(super) fn input_after_end(event: EventId, input: &Input) -> Fault {
    Fault::left_over(event, describe_input(input), "the code ended before this event".to_owned())
}

/// Returns the fault of a history that begins with a decision.
pub(super) fn decision_without_step(event: &HistoryEvent) -> Fault {
    Fault::mismatch(event.id, Some(describe_event(&event.kind)), None)
}

/// Returns the fault of a recorded input that the code does not accept: it answers no open call.
pub(super) fn stale_input(event: EventId, input: &Input) -> Fault {
    Fault::mismatch(event, Some(describe_input(input)), None)
}

fn same(recorded: &Decision, payload: &Payload, asked: &Decided) -> bool {
    let kind = match (recorded, &asked.decision) {
        (Decision::ActivityScheduled(a), Decision::ActivityScheduled(b)) => activity::same(a, b),
        (Decision::ChildScheduled(a), Decision::ChildScheduled(b)) => child::same(a, b),
        // The reason is not compared, since the library may word it differently in a later version.
        (
            Decision::CallRejected { call: a, operation: of_a, .. },
            Decision::CallRejected { call: b, operation: of_b, .. },
        ) => a == b && shortened_to(MAX_OPERATION, of_a) == *of_b,
        // An earlier version has recorded the whole message of a panic.
        (
            Decision::Failed { failure: Failure::Panicked { message: a } },
            Decision::Failed { failure: Failure::Panicked { message: b } },
        ) => shortened(a) == *b,
        (a, b) => a == b,
    };
    kind && payload.json_eq(&asked.payload)
}

fn describe_event(kind: &EventKind) -> String {
    match kind {
        EventKind::Decision(decision) => describe(decision),
        EventKind::Input(input) => describe_input(input),
    }
}

fn describe_input(input: &Input) -> String {
    match input {
        Input::Started(_) => "the start of the execution".to_owned(),
        Input::EventRaised { name, .. } => format!("event {name:?}"),
        Input::EventDropped { event } => format!("the removal of event {event}"),
        Input::CancelRequested { .. } => "a request to cancel".to_owned(),
        Input::TerminateRequested { .. } => "a request to terminate".to_owned(),
        Input::ActivityCompleted { call, .. }
        | Input::ActivityFailed { call, .. }
        | Input::TimerFired { call }
        | Input::ChildCompleted { call }
        | Input::ChildFailed { call, .. }
        | Input::StartAccepted { call }
        | Input::StartRejected { call, .. } => format!("the outcome of call {call}"),
    }
}

fn describe(decision: &Decision) -> String {
    match decision {
        Decision::ActivityScheduled(a) => activity::describe(a),
        Decision::ChildScheduled(c) => child::describe(c),
        Decision::TimerCreated { call, due } => timer::describe(*call, *due),
        Decision::EventAwaited { call, name } => event::describe(*call, name),
        Decision::CallRejected { call, operation, .. } => format!("call {call}: refused {operation}"),
        Decision::CallDropped { call } => format!("call {call}: dropped"),
        Decision::Completed => "return Ok".to_owned(),
        Decision::Failed { failure: Failure::Panicked { .. } } => "panic".to_owned(),
        Decision::Failed { failure: Failure::Rejected { .. } } => "return a value that is refused".to_owned(),
        Decision::Failed { .. } => "return Err".to_owned(),
        Decision::Cancelled { .. } => "end as cancelled".to_owned(),
        Decision::Terminated { .. } => "end as terminated".to_owned(),
        Decision::ContinuedAsNew { version: None } => "continue as new".to_owned(),
        Decision::ContinuedAsNew { version: Some(version) } => format!("continue as new, version {version}"),
    }
}

/// Describes the decision of the code. If only its value differs, the text says where and how, without the values.
fn describe_beside(recorded: &Decision, payload: &Payload, asked: &Decided) -> String {
    let text = describe(&asked.decision);
    if text != describe(recorded) {
        return text;
    }
    match asked.payload.difference(payload) {
        Some(difference) => format!("{text}, whose value differs: {difference}"),
        None => format!("{text}, with another message"),
    }
}
