//! Activity calls.

use crate::history::{ActivityScheduled, Decision};
use crate::id::CallId;
use crate::payload::Payload;
use crate::replay::op::Op;
use crate::replay::{CallSite, Core};

/// Schedules an activity.
pub(crate) fn schedule(core: &Core, activity: ActivityScheduled, input: Payload, place: CallSite) {
    let op = Op::Activity { detached: activity.detached, deadline: activity.options.schedule_to_close.is_some() };
    core.schedule(activity.call, op, Decision::ActivityScheduled(Box::new(activity)), input, place);
}

/// Returns true if a replay may schedule `b` where the history has `a`. Retry and time limits may change between
/// deploys; the name, the tag and the call may not.
pub(in crate::replay) fn same(a: &ActivityScheduled, b: &ActivityScheduled) -> bool {
    (a.call, &a.name, &a.tag, a.detached) == (b.call, &b.name, &b.tag, b.detached)
}

pub(in crate::replay) fn describe(activity: &ActivityScheduled) -> String {
    let ActivityScheduled { call, name, tag, detached, .. } = activity;
    let tag = tag.as_ref().map(|tag| format!(", tag {tag:?}")).unwrap_or_default();
    let detached = if *detached { ", detached" } else { "" };
    format!("call {call}: activity {name:?}{tag}{detached}")
}

/// Returns the key that all attempts of an activity call share. No other call has it, not even one of a later instance with
/// the same id. Its length is bounded, since services limit the length of such keys.
pub(crate) fn idempotency_key(execution: &crate::id::ExecutionId, call: CallId) -> String {
    format!("{}/{}/{call}", execution.identity, execution.number)
}
