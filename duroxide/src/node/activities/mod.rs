//! The activities of a node.

mod attempt;
mod blocking;
mod permits;

pub(super) use attempt::{Attempt, AttemptDone, AttemptEnd, AttemptEnv, BusyThread};
pub(super) use blocking::BlockingPool;
pub(super) use permits::{ActivityPermits, Kind, Permit};
