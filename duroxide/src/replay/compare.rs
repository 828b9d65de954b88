//! Compares the decisions of a replay with the recorded ones.

use super::Fault;
use super::op::{Decided, activity, child};
use crate::history::{Decision, Event, EventKind, Input};
use crate::id::EventId;
use crate::payload::Payload;

/// Compares the decisions of one step, both sorted by call.
pub(super) fn step(input: EventId, recorded: &[Event], asked: &[Decided]) -> Result<(), Fault> {
    let mut asked = asked.iter();
    for event in recorded {
        let EventKind::Decision(decision) = &event.kind else { continue };
        let Some(other) = asked.next() else {
            return Err(Fault::mismatch(event.id, Some(describe(decision)), None));
        };
        if !same(decision, &event.payload, other) {
            let asked = describe_beside(decision, other);
            return Err(Fault::mismatch(event.id, Some(describe(decision)), Some(asked)).at(other.place));
        }
    }
    match asked.next() {
        None => Ok(()),
        Some(extra) => {
            let position = recorded.last().map_or(input, |event| event.id).next();
            Err(Fault::mismatch(position, None, Some(describe(&extra.decision))).at(extra.place))
        }
    }
}

/// Returns the fault of a history that begins with a decision.
pub(super) fn decision_without_step(event: &Event) -> Fault {
    let recorded = match &event.kind {
        EventKind::Decision(decision) => describe(decision),
        EventKind::Input(input) => format!("{input:?}"),
    };
    Fault::mismatch(event.id, Some(recorded), None)
}

/// Returns the fault of a recorded input that the code does not accept: it answers no open call, or comes after the
/// end.
pub(super) fn stale_input(event: EventId, input: &Input) -> Fault {
    let recorded = match input.call() {
        Some(call) => format!("the outcome of call {call}"),
        None => "an input for an execution that has begun and not ended".to_owned(),
    };
    Fault::mismatch(event, Some(recorded), None)
}

fn same(recorded: &Decision, payload: &Payload, asked: &Decided) -> bool {
    let kind = match (recorded, &asked.decision) {
        (Decision::ActivityScheduled(a), Decision::ActivityScheduled(b)) => activity::same(a, b),
        (Decision::ChildScheduled(a), Decision::ChildScheduled(b)) => child::same(a, b),
        // The reason is not compared, since the library may word it differently in a later version.
        (
            Decision::CallRejected { call: a, operation: of_a, .. },
            Decision::CallRejected { call: b, operation: of_b, .. },
        ) => (a, of_a) == (b, of_b),
        (a, b) => a == b,
    };
    kind && payload.json_eq(&asked.payload)
}

fn describe(decision: &Decision) -> String {
    match decision {
        Decision::ActivityScheduled(a) => activity::describe(a),
        Decision::ChildScheduled(c) => child::describe(c),
        Decision::TimerCreated { call, due } => format!("call {call}: timer due {due}"),
        Decision::EventAwaited { call, name } => format!("call {call}: wait for event {name:?}"),
        Decision::CallRejected { call, operation, .. } => format!("call {call}: refused {operation}"),
        Decision::CallDropped { call } => format!("call {call}: dropped"),
        Decision::Completed => "return Ok".to_owned(),
        Decision::Failed { .. } => "return Err".to_owned(),
        Decision::Cancelled { .. } => "end as cancelled".to_owned(),
        Decision::Terminated { .. } => "end as terminated".to_owned(),
        Decision::ContinuedAsNew { version: None } => "continue as new".to_owned(),
        Decision::ContinuedAsNew { version: Some(version) } => format!("continue as new, version {version}"),
    }
}

/// Describes the decision that was asked for. Payloads are never shown; the text says so if only they differ.
fn describe_beside(recorded: &Decision, asked: &Decided) -> String {
    let text = describe(&asked.decision);
    if text == describe(recorded) { format!("{text}, with another value") } else { text }
}
