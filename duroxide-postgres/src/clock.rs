//! The clock of the database, as nodes and clients read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use duroxide::clock::{Clock, Timestamp};
use futures_util::future::BoxFuture;

/// The longest time that a sleep relies on one reading of the clock, which may be corrected during the sleep.
const RECHECK: Duration = Duration::from_secs(60);

/// A monotonic clock that the answers of the database set. All nodes and clients of a database read the same time, so that
/// one clock decides which items are due, and a wrong clock of a machine has no effect.
#[derive(Clone)]
pub(crate) struct DatabaseClock(Arc<State>);

struct State {
    origin: Instant,
    /// The time of the database at the origin, in microseconds.
    at_origin: AtomicI64,
    /// The latest time shown: the clock is never set back.
    shown: AtomicI64,
}

impl DatabaseClock {
    pub(crate) fn new() -> Self {
        let at_origin = Timestamp::from(std::time::SystemTime::now()).as_micros();
        Self(Arc::new(State {
            origin: Instant::now(),
            at_origin: AtomicI64::new(at_origin),
            shown: AtomicI64::new(i64::MIN),
        }))
    }

    /// Sets the clock: the database showed `time` between `asked` and now. The middle of that time is the best guess.
    pub(crate) fn set(&self, time: i64, asked: Instant) {
        let middle = asked + asked.elapsed() / 2;
        let elapsed = micros(middle.saturating_duration_since(self.0.origin));
        self.0.at_origin.store(time.saturating_sub(elapsed), Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let state = &self.0;
        let now = state.at_origin.load(Ordering::Relaxed).saturating_add(micros(state.origin.elapsed()));
        Timestamp::from_micros(state.shown.fetch_max(now, Ordering::Relaxed).max(now))
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let wait = due.since(clock.now());
                if wait.is_zero() {
                    return;
                }
                tokio::time::sleep(wait.min(RECHECK)).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_set_by_the_database_and_never_back() {
        let clock = DatabaseClock::new();
        clock.set(4_000_000_000_000_000, Instant::now());
        let ahead = clock.now();
        assert!(ahead.as_micros() >= 4_000_000_000_000_000);
        clock.set(3_000_000_000_000_000, Instant::now());
        assert!(clock.now() >= ahead);
    }
}
