//! The instances that are live on a node.

mod instance;
mod timers;

pub(super) use instance::{Delivery, LiveInstance, LiveState, LocalOutcome};
pub(super) use timers::Timers;
