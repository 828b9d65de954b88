//! Pauses between attempts at an operation that fails.

use std::time::Duration;

/// Doubling pauses from 10 ms up to 5 s, each shortened at random by up to half.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(5);

    /// Returns the pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = Self::FIRST.saturating_mul(1 << self.attempts.min(16)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        shorten(doubled, 0.5)
    }

    /// Returns the number of pauses so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Shortens a pause at random by up to this share, so that callers that failed together do not retry together.
fn shorten(pause: Duration, share: f64) -> Duration {
    let random = f64::from(crate::random::bits() as u32) / f64::from(u32::MAX);
    pause.mul_f64(1.0 - share * random)
}

/// Returns the pause before the next attempt of an activity, shortened at random by up to a tenth.
pub(crate) fn jittered(pause: Duration) -> Duration {
    shorten(pause, 0.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit_and_never_overflow() {
        let mut backoff = Backoff::default();
        for attempt in 0..100 {
            let longest = Backoff::FIRST.saturating_mul(1 << attempt.min(16)).min(Backoff::LONGEST);
            let pause = backoff.next();
            assert!(pause <= longest && pause >= longest / 2, "attempt {attempt}: {pause:?}");
        }
        let mut backoff = Backoff { attempts: u32::MAX - 1 };
        for _ in 0..3 {
            assert!((Backoff::LONGEST / 2..=Backoff::LONGEST).contains(&backoff.next()));
        }
        assert_eq!(backoff.attempts(), u32::MAX);
    }

    #[test]
    fn pauses_of_several_callers_differ() {
        let pauses: std::collections::BTreeSet<_> = (0..100).map(|_| shorten(Backoff::LONGEST, 0.5)).collect();
        assert!(pauses.len() > 90, "{pauses:?}");
    }
}
