//! Durable timers.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::history::Decision;
use crate::id::CallId;
use crate::payload::Payload;
use crate::replay::op::Op;
use crate::replay::{CallSite, Core};

/// The time at which a timer fires.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    After(Duration),
    At(Timestamp),
}

/// Schedules a timer. A duration counts from the time of the running step.
pub(crate) fn create(core: &Core, call: CallId, due: Due, place: CallSite) {
    let due = match due {
        Due::After(duration) => core.lock().now + duration,
        Due::At(time) => time,
    };
    core.schedule(call, Op::Timer, Decision::TimerCreated { call, due }, Payload::NULL, place);
}

pub(in crate::replay) fn describe(call: CallId, due: Timestamp) -> String {
    format!("call {call}: timer due {due}")
}
