//! Finds out that the clock was set.
//!
//! Times are stored and recorded by the clock of the machine, which an operator or a time service may set. A node measures
//! how long its own timers still wait by the monotonic clock as well: when the clock was set back, it moves them by as
//! much, so that they fire after the time that was left. When the clock was set ahead, timers that are due by it fire.
//! Recorded times follow the clock in both cases; within an execution they never go back.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// The last look at the clock.
#[derive(Default)]
pub(super) struct ClockWatch(Option<(Timestamp, Duration)>);

impl ClockWatch {
    /// The largest step between two looks that is ignored, in microseconds. A time service that adjusts the rate of the
    /// clock stays far below it.
    const BOUND: u64 = 1_000_000;

    /// Looks at the clock. Returns the microseconds by which it was set since the last look: negative if it was set
    /// back.
    pub(super) fn look(&mut self, clock: &dyn Clock) -> Option<i64> {
        let last = self.0.replace(read(clock)?)?;
        let is_step = |now: (Timestamp, Duration)| step(last, now).unsigned_abs() > Self::BOUND;
        if !self.0.is_some_and(is_step) {
            return None;
        }
        // The thread may have waited between the two clocks: read them once more.
        let now = read(clock)?;
        self.0 = Some(now);
        is_step(now).then(|| step(last, now))
    }
}

fn read(clock: &dyn Clock) -> Option<(Timestamp, Duration)> {
    let steady = clock.steady()?;
    Some((clock.now(), steady))
}

/// Returns the microseconds by which the clock has advanced more than the monotonic one.
fn step(last: (Timestamp, Duration), now: (Timestamp, Duration)) -> i64 {
    let passed = i64::try_from(now.1.saturating_sub(last.1).as_micros()).unwrap_or(i64::MAX);
    now.0.as_micros().saturating_sub(last.0.as_micros()).saturating_sub(passed)
}
