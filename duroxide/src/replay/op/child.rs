//! Child orchestrations and detached starts.

use crate::history::{ChildScheduled, Decision};
use crate::payload::Payload;
use crate::replay::op::Op;
use crate::replay::{CallSite, Core};

/// Schedules the start of another orchestration.
pub(crate) fn schedule(core: &Core, child: ChildScheduled, input: Payload, place: CallSite) {
    let op = if child.detached {
        Op::DetachedStart
    } else {
        Op::Child { instance: child.instance_in(&core.execution), close: child.close }
    };
    core.schedule(child.call, op, Decision::ChildScheduled(Box::new(child)), input, place);
}

/// Returns true if a replay may schedule `b` where the history has `a`. The close policy may change between deploys.
pub(in crate::replay) fn same(a: &ChildScheduled, b: &ChildScheduled) -> bool {
    (a.call, &a.name, &a.version, &a.instance, a.detached) == (b.call, &b.name, &b.version, &b.instance, b.detached)
}

pub(in crate::replay) fn describe(child: &ChildScheduled) -> String {
    let ChildScheduled { call, name, version, instance, detached, .. } = child;
    let version = version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
    let kind = if *detached { "detached start of" } else { "child" };
    let instance = instance.as_ref().map(|id| format!(" as {id:?}")).unwrap_or_default();
    format!("call {call}: {kind} {name:?}{version}{instance}")
}
