//! The instances that are live on a node.

mod instance;
mod timers;

pub(super) use instance::{Delivery, LiveInstance, LiveState, LocalOutcome};
pub(super) use timers::Timers;

/// Returns the execution of a live copy whose turn, or its commit, is in flight, and its last committed event.
pub(super) fn in_flight<'l>(
    instances: &'l std::collections::HashMap<crate::id::InstanceId, LiveInstance>,
    instance: &crate::id::InstanceId,
) -> Option<(&'l crate::id::ExecutionId, crate::id::EventId)> {
    let busy = instances.get(instance).filter(|live| matches!(live.state, LiveState::Busy));
    busy.map(|live| (&live.execution, live.committed))
}
