//! Random decisions of a seed.

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// A stream of random decisions. The streams of one seed are independent of each other.
pub(super) struct Dice(ChaCha8Rng);

/// The subject of a stream.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Plan = 1,
    Calls,
    Activities,
    Chaos,
    Scenario,
    Transactions,
}

impl Dice {
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        let mut numbers = ChaCha8Rng::seed_from_u64(seed);
        numbers.set_stream(stream as u64);
        Self(numbers)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below the limit; zero if the limit is zero.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        // The bias is at most limit / 2^64, which does not matter here.
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Returns a number from 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0.next_u32() as f64 / f64::from(u32::MAX)
    }

    /// Returns true with the given probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.share() < probability
    }

    /// Returns a duration from 1 ms to `longest`, distributed evenly over the orders of magnitude, so that short
    /// durations are as likely as long ones.
    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        let shortest = Duration::from_millis(1);
        if longest <= shortest {
            return longest;
        }
        shortest.mul_f64((longest.as_secs_f64() / shortest.as_secs_f64()).powf(self.share()))
    }
}
