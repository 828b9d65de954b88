//! Checks parents and children: a parent has the right outcome of a child, and no child outlives a parent that closes
//! it.

use super::{Ended, Stored};
use crate::history::{ChildScheduled, Decision, EventKind, Failure, HistoryEvent, Input};
use crate::id::{ExecutionId, InstanceId};
use crate::policy::ClosePolicy;
use crate::provider::InstanceStatus;
use crate::testing::simulation::record::{Record, requests_end};

pub(super) fn check(stored: &Stored, record: &Record, found: &mut Vec<String>) {
    for (id, parent) in &stored.executions {
        let children = parent.events.iter().filter_map(|event| match &event.kind {
            EventKind::Decision(Decision::ChildScheduled(child)) => Some((event, child)),
            _ => None,
        });
        for (scheduled, child) in children {
            let wrong = check_child(stored, record, id, parent, scheduled, child);
            let instance = child.instance_in(id);
            found.extend(wrong.map(|wrong| format!("{id}: call {}, child {instance}: {wrong}", child.call)));
        }
    }
}

/// Returns the finding for one child of a parent, if any.
fn check_child(
    stored: &Stored,
    seen: &Record,
    id: &ExecutionId,
    parent: &Ended,
    scheduled: &HistoryEvent,
    child: &ChildScheduled,
) -> Option<String> {
    let instance = child.instance_in(id);
    let record = stored.instances.get(&instance);
    let is_ours = record.and_then(|r| r.parent.as_ref()).is_some_and(|p| p.execution == *id && p.call == child.call)
        && seen.is_child(&instance, &id.instance);
    if !is_ours && seen.grafted.get(id).is_some_and(|last| scheduled.id <= *last) || seen.was_reset(&instance) {
        // It is the child of the execution whose history was taken over, or has had other outcomes.
        return None;
    }
    let of_call = |event: &&HistoryEvent| match &event.kind {
        EventKind::Input(input) => input.call() == Some(child.call),
        EventKind::Decision(decision) => {
            matches!(decision, Decision::CallDropped { call } if *call == child.call)
        }
    };
    let end = parent.events.iter().find(of_call);
    match end.map(|event| &event.kind) {
        // A client has removed the child, so its outcome can no longer be compared.
        Some(EventKind::Input(_)) if seen.removed.contains(&instance) => None,
        Some(EventKind::Input(Input::StartAccepted { .. })) => {
            record.is_none().then(|| "the parent has recorded its start, and it does not exist".to_owned())
        }
        Some(EventKind::Input(Input::StartRejected { .. })) => {
            is_ours.then(|| "it was started, and the parent has recorded a refused start".to_owned())
        }
        Some(EventKind::Input(input)) => {
            let outcome = record.filter(|_| is_ours).and_then(|record| record.outcome.clone());
            let Some(outcome) = outcome.and_then(|row| HistoryEvent::try_from(row).ok()) else {
                return Some("the parent has recorded an outcome of it, and it has none".to_owned());
            };
            let agrees = agree(input, &outcome) && end.is_some_and(|event| event.payload == outcome.payload);
            (!agrees).then(|| format!("the parent has recorded {input:?}, and its own end is {:?}", outcome.kind))
        }
        Some(EventKind::Decision(_)) | None if child.detached || child.close == ClosePolicy::Abandon => None,
        _ => {
            let closed = end.or(parent.events.last()).unwrap_or(scheduled);
            let abandoned = seen.abandoned.get(id).copied().filter(|_| end.is_none());
            let closed = abandoned.or_else(|| seen.turn_of(id, closed.id));
            // A call that was dropped before its child was created has no child.
            let orphan = is_ours && is_orphan(stored, seen, closed, &instance);
            orphan.then(|| "its parent has ended, and it was not closed".to_owned())
        }
    }
}

/// Returns true if the outcome that the parent has recorded is the end of the child.
fn agree(recorded: &Input, end: &HistoryEvent) -> bool {
    let EventKind::Decision(end) = &end.kind else { return false };
    match (recorded, end) {
        (Input::ChildCompleted { .. }, Decision::Completed) => true,
        // The parent is told which function panicked.
        (
            Input::ChildFailed { failure: Failure::Panicked { message }, .. },
            Decision::Failed { failure: Failure::Panicked { message: own } },
        ) => message.ends_with(own.as_str()),
        (Input::ChildFailed { failure, .. }, Decision::Failed { failure: own }) => failure == own,
        (Input::ChildFailed { failure: Failure::Cancelled { reason }, .. }, Decision::Cancelled { reason: own }) => {
            reason == own
        }
        (
            Input::ChildFailed { failure: Failure::Terminated { reason }, .. },
            Decision::Terminated { reason: own, .. },
        ) => reason == own,
        _ => false,
    }
}

/// Returns true if a child received no request to close, was not terminated, and had not finished before its parent
/// closed it in the turn `closed`.
fn is_orphan(stored: &Stored, record: &Record, closed: Option<u64>, child: &InstanceId) -> bool {
    let executions = stored.executions.iter().filter(|(id, _)| id.instance == *child);
    let requested = executions.flat_map(|(_, ended)| &ended.events).any(requests_end);
    let Some(seen) = record.instances.get(child) else { return false };
    let terminated = seen.status == InstanceStatus::Terminated;
    !(requested || terminated || seen.unread_close || seen.pruned_close || seen.ended < closed)
}
