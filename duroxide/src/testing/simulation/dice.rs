//! Decisions that a seed makes.

use std::time::Duration;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// A stream of decisions. Streams of one seed do not depend on each other.
pub(super) struct Dice(ChaCha8Rng);

/// What a stream decides about.
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

    /// A number below another; zero if that is zero.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        // The error is far too small to matter here.
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    pub(super) fn share(&mut self) -> f64 {
        self.0.next_u32() as f64 / f64::from(u32::MAX)
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.share() < probability
    }

    /// A duration up to this, of any order of magnitude from a millisecond on: short ones are as likely as long ones.
    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        let shortest = Duration::from_millis(1);
        if longest <= shortest {
            return longest;
        }
        shortest.mul_f64((longest.as_secs_f64() / shortest.as_secs_f64()).powf(self.share()))
    }
}
