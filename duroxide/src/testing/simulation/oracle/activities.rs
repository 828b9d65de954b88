//! Checks activities: an outcome in a history is that of an attempt, and no attempt exceeds the retry policy.

use super::{Ended, Stored};
use crate::history::{Decision, EventKind, Failure, Input};
use crate::id::{ActivityId, CallId};
use crate::testing::simulation::record::Record;

pub(super) fn check(stored: &Stored, record: &Record, found: &mut Vec<String>) {
    for (execution, Ended { events, .. }) in &stored.executions {
        // The outcomes of a history that was taken over are those of another execution.
        let taken_over = record.grafted.get(execution).copied();
        let of_another = |call: CallId| {
            let scheduled = events.iter().find(|event| {
                matches!(&event.kind, EventKind::Decision(decision) if decision.is_call() && decision.call() == Some(call))
            });
            taken_over.is_some_and(|last| scheduled.is_some_and(|scheduled| scheduled.id <= last))
        };
        let id = |call| ActivityId { execution: execution.clone(), call };
        for event in events {
            let (call, outcome) = match &event.kind {
                EventKind::Input(Input::ActivityCompleted { call, .. }) => (*call, Ok(event.payload.clone())),
                EventKind::Input(Input::ActivityFailed { call, failure: Failure::Application, .. }) => {
                    (*call, Err(event.payload.clone()))
                }
                EventKind::Decision(Decision::ActivityScheduled(activity)) => {
                    let most = activity.options.retry.as_ref().map_or(Some(1), |policy| policy.max_attempts);
                    let attempts = record.attempts.get(&id(activity.call)).map_or(&[][..], Vec::as_slice);
                    let beyond = attempts.iter().find(|a| most.is_some_and(|most| a.attempt > most));
                    found.extend(beyond.map(|a| {
                        format!("{}: attempt {} was made, beyond its retry policy", id(activity.call), a.attempt)
                    }));
                    continue;
                }
                _ => continue,
            };
            let attempts = record.attempts.get(&id(call)).map_or(&[][..], Vec::as_slice);
            let is_known = attempts.iter().any(|attempt| attempt.ended.as_ref() == Some(&outcome));
            if !is_known && !of_another(call) {
                found.push(format!("{}: its outcome is not that of any attempt", id(call)));
            }
        }
    }
}
