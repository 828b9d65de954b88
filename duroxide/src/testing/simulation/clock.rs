//! The wall clock of one node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};

/// A clock that runs as fast as tokio's paused clock, and may be set ahead of or behind the true time.
#[derive(Clone)]
pub(super) struct WallClock {
    begun: Instant,
    skew: Arc<Skew>,
}

#[derive(Default)]
struct Skew {
    micros: AtomicI64,
    /// Wakes the sleeping tasks, which read the clock again.
    set: Notify,
}

impl WallClock {
    /// The time at which a simulation begins: 1 January 2020.
    const BEGIN: Timestamp = Timestamp::from_micros(1_577_836_800_000_000);

    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, skew: Arc::default() }
    }

    /// Sets the clock ahead of the true time by `skew` microseconds, or behind it if `skew` is negative.
    pub(super) fn set(&self, skew: i64) {
        self.skew.micros.store(skew, Ordering::Relaxed);
        self.skew.set.notify_waiters();
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let time = Self::BEGIN + self.begun.elapsed();
        Timestamp::from_micros(time.as_micros() + self.skew.micros.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        let (clock, begun) = (self.clone(), Instant::now());
        let longest = due.since(clock.now());
        Box::pin(async move {
            loop {
                let wait = due.since(clock.now()).min(longest.saturating_sub(begun.elapsed()));
                if wait.is_zero() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = clock.skew.set.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        })
    }

    fn steady(&self) -> Option<Duration> {
        Some(self.begun.elapsed())
    }
}
