//! Testing orchestrations: in memory, with a clock that jumps, and with activities replaced (feature `testing`).

mod clock;
mod history_check;
mod test_runtime;

pub use clock::VirtualClock;
pub use history_check::check_history;
pub use test_runtime::{TestRuntime, TestRuntimeBuilder};
