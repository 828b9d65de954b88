//! Time: [`Timestamp`], and the [`Clock`] that the runtime reads in place of the operating system.
//!
//! A program needs it to replace the clock: a test, or a provider with a clock of its own. `testing::VirtualClock` is
//! the clock of most tests; the page [Orchestration guide] shows one.
//!
//! [Orchestration guide]: https://github.com/duroxide/duroxide/blob/main/docs/ORCHESTRATION-GUIDE.md#testing

mod convert;
mod text;
pub mod virtual_time;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

#[cfg(any(feature = "jiff", feature = "chrono"))]
pub use self::convert::TimestampOutOfRange;
pub use self::text::InvalidTimestamp;
use self::virtual_time::{ClockHold, Participant};

/// A point in time: microseconds since the Unix epoch, UTC. Arithmetic saturates.
///
/// With the features `jiff` and `chrono` it converts from and to `jiff::Timestamp` and `chrono::DateTime<Utc>`. Its stored
/// form, including that in your values, is the number of microseconds.
///
/// ```
/// use duroxide::Timestamp;
/// use std::time::Duration;
/// let start = Timestamp::from_micros(0);
/// assert_eq!((start + Duration::from_secs(1)).to_string(), "1970-01-01T00:00:01.000Z");
/// assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(start + Duration::from_secs(1)));
/// assert_eq!(start + Duration::from_secs(1) - Duration::from_secs(1), start);
/// assert_eq!((start + Duration::from_secs(5)) - start, Duration::from_secs(5));
/// assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
/// assert_eq!(Timestamp::from(std::time::SystemTime::UNIX_EPOCH), start);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time.
    pub(crate) const MIN: Self = Self(i64::MIN);

    /// The latest time. A timer that is due then waits until it is cancelled.
    pub const MAX: Self = Self(i64::MAX);

    /// Creates a timestamp from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the time that is later by these microseconds, or earlier if they are negative.
    pub(crate) const fn shifted(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Returns the time from `earlier` to this, or zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// The time from the other timestamp to this, or zero if the other is not earlier; see [`Timestamp::since`].
impl std::ops::Sub for Timestamp {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl std::ops::AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl std::ops::SubAssign<Duration> for Timestamp {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(-micros(before.duration())),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_micros(time.0.unsigned_abs());
        let sum = if time.0 >= 0 {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        };
        sum.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// A source of the time, which also wakes tasks at a given time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time now.
    fn now(&self) -> Timestamp;

    /// Resolves once [`now`](Clock::now) has reached `due`. If the clock is set back in the meantime, it resolves once
    /// the time from the call to `due` has passed.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()>;

    /// Returns the time since a fixed moment, by a clock that is never set. A node compares it with
    /// [`now`](Clock::now) to find out that the clock was set: by more than a second between two looks, which are at
    /// most a third of [`lease_time`](crate::RuntimeOptions::lease_time) apart. Its timers then fire after the time that
    /// was left, and it logs a warning. Default: `None`, for a clock that is never set.
    fn steady(&self) -> Option<Duration> {
        None
    }

    /// Stops a virtual clock until the guard is dropped: work is in progress that must take no time by this clock. The
    /// default has no effect, since only a virtual clock can stop. See [`virtual_time`].
    fn hold(&self) -> ClockHold {
        ClockHold::none()
    }

    /// Registers a participant that waits, until the guard is dropped. Called only if [`hold`](Clock::hold) has an
    /// effect. The default ignores the participant. See [`virtual_time`].
    fn join(&self, participant: Participant) -> ClockHold {
        drop(participant);
        ClockHold::none()
    }
}

/// The clock of the operating system. Its sleeps need the running clock of tokio: under a paused one
/// (`tokio::time::pause`) each would end at once and begin again.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The longest time that a sleep relies on the monotonic clock alone, since the wall clock may be set ahead during
    /// the sleep.
    const RECHECK: Duration = Duration::from_secs(60);
}

/// The fixed moment of [`SystemClock::steady`].
static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        let (clock, begun) = (*self, tokio::time::Instant::now());
        let longest = due.since(clock.now());
        Box::pin(async move {
            loop {
                // If the clock was set back, the rest of the time that was to be waited is shorter.
                let wait = due.since(clock.now()).min(longest.saturating_sub(begun.elapsed()));
                if wait.is_zero() {
                    return;
                }
                tokio::time::sleep(wait.min(Self::RECHECK)).await;
            }
        })
    }

    fn steady(&self) -> Option<Duration> {
        Some(ORIGIN.elapsed())
    }
}

/// Returns true if the clock of this tokio runtime is paused. Tokio has no such query.
pub(crate) fn tokio_is_paused() -> bool {
    let (tokio, system) = (tokio::time::Instant::now(), std::time::Instant::now());
    // A running clock of tokio adds the time of the system to a constant, so it advances with each step of the system's
    // clock: within a microsecond. A paused one moves only by itself while its thread, which is this one, waits.
    while std::time::Instant::now() <= system {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == tokio
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn paused_clock_of_tokio_is_detected() {
        assert!((0..10_000).all(|_| !tokio_is_paused()));
        tokio::time::pause();
        assert!((0..10_000).all(|_| tokio_is_paused()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(tokio_is_paused());
        tokio::time::resume();
        assert!((0..10_000).all(|_| !tokio_is_paused()));
    }
}
