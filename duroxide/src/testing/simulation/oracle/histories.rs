//! Checks each history on its own.

use std::collections::BTreeMap;

use super::{Ended, Stored, started};
use crate::clock::Timestamp;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::{CallId, ExecutionId};
use crate::provider::InstanceStatus;
use crate::testing::simulation::record::Record;

pub(super) fn check(stored: &Stored, record: &Record, found: &mut Vec<String>) {
    for (id, Ended { events, .. }) in &stored.executions {
        let end = if record.abandoned.contains_key(id) { Vec::new() } else { end(stored, id, events) };
        let wrong = order(events).into_iter().chain(calls(events)).chain(end);
        found.extend(wrong.map(|wrong| format!("{id}: {wrong}")));
    }
}

fn order(events: &[HistoryEvent]) -> Vec<String> {
    let mut wrong = Vec::new();
    if !events.iter().map(|event| event.id.0).eq(1..=events.len() as u64) {
        wrong.push("its events are not numbered from 1 without gaps".to_owned());
    }
    if !events.is_sorted_by_key(|event| event.time) {
        wrong.push("its times are not in ascending order".to_owned());
    }
    let starts = events.iter().filter(|event| matches!(event.kind, EventKind::Input(Input::Started(_)))).count();
    if starts > 1 || (starts == 0) != started(events).is_none() {
        wrong.push(format!("it starts {starts} times"));
    }
    wrong
}

/// Checks that every call is scheduled at most once and ends at most once, and that no timer fires early.
fn calls(events: &[HistoryEvent]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut open: BTreeMap<CallId, Option<Timestamp>> = BTreeMap::new();
    let mut known = std::collections::BTreeSet::new();
    for event in events {
        let time = event.time;
        match &event.kind {
            EventKind::Decision(Decision::CallDropped { call }) => {
                if open.remove(call).is_none() {
                    wrong.push(format!("call {call} is dropped, and is not open"));
                }
            }
            EventKind::Decision(decision) => {
                let Some(call) = decision.call() else { continue };
                if !known.insert(call) {
                    wrong.push(format!("call {call} is scheduled twice"));
                }
                let due = if let Decision::TimerCreated { due, .. } = decision { Some(*due) } else { None };
                open.insert(call, due);
            }
            EventKind::Input(input) => {
                let Some(call) = input.call() else { continue };
                match open.remove(&call) {
                    None => wrong.push(format!("call {call} has an outcome, and is not open: {input:?}")),
                    Some(Some(due)) if time < due => wrong.push(format!("timer {call} is due {due}, fired {time}")),
                    Some(_) => {}
                }
            }
        }
    }
    wrong
}

/// Checks that a history ends once, with the status of its instance.
fn end(stored: &Stored, id: &ExecutionId, events: &[HistoryEvent]) -> Vec<String> {
    let terminal =
        |event: &&HistoryEvent| matches!(&event.kind, EventKind::Decision(decision) if decision.is_terminal());
    let ends: Vec<_> = events.iter().filter(terminal).collect();
    let last = events.last();
    let [end] = ends[..] else { return vec![format!("it ends {} times: {last:?}", ends.len())] };
    let mut wrong = Vec::new();
    if last != Some(end) {
        wrong.push("it continues after its end".to_owned());
    }
    let status = match &end.kind {
        EventKind::Decision(Decision::Completed) => Some(InstanceStatus::Completed),
        EventKind::Decision(Decision::Failed { .. }) => Some(InstanceStatus::Failed),
        EventKind::Decision(Decision::Cancelled { .. }) => Some(InstanceStatus::Cancelled),
        EventKind::Decision(Decision::Terminated { .. }) => Some(InstanceStatus::Terminated),
        _ => None,
    };
    let Some(record) = stored.instances.get(&id.instance) else { return wrong };
    let current = record.execution.number == id.number;
    if current != status.is_some() {
        wrong.push(format!("its end is {:?}, and execution {} is the current one", end.kind, record.execution));
    }
    if current && (status != Some(record.status) || record.outcome.as_ref().is_none_or(|row| row.id != end.id)) {
        wrong.push(format!("its end is {:?}, and its instance is {}", end.kind, record.status));
    }
    wrong
}
