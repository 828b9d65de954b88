//! Tests of orchestrations (feature `testing`): a runtime in memory with a virtual clock and mocked activities, the
//! replay of recorded histories, and a simulation with faults that a seed chooses.
//!
//! The tests of a program need it. The page [Testing] explains it.
//!
//! [Testing]: https://github.com/duroxide/duroxide/blob/main/docs/testing.md

mod clock;
mod history_check;
mod mocks;
mod simulation;
mod stall;
mod test_runtime;

pub use clock::VirtualClock;
pub use history_check::check_history;
pub use mocks::AsyncMock;
#[doc(hidden)]
pub use simulation::Flaw;
pub use simulation::{Answered, Failure, Faults, Report, Sim, Simulation, for_each_seed};
pub use test_runtime::{TestRuntime, TestRuntimeBuilder};
