//! Pauses between attempts at something that fails.

use std::time::Duration;

/// Doubling pauses from 10 ms up to 5 s, each shortened at random by up to half.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(5);

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = Self::FIRST.saturating_mul(1 << self.attempts.min(16)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        shorten(doubled, 0.5)
    }

    /// How many pauses there were.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Shortens a pause at random by up to this share, so that what failed together does not come back together.
pub(crate) fn shorten(pause: Duration, share: f64) -> Duration {
    let random = f64::from(crate::random::bits() as u32) / f64::from(u32::MAX);
    pause.mul_f64(1.0 - share * random)
}
