//! Random numbers. They follow from the seed that the start records, so they are not decisions.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::replay::{CallSite, Core};

/// The random numbers of an execution. The generator is created with the first number, since few executions ask for one.
#[derive(Default)]
pub(crate) enum Random {
    /// The execution has not begun.
    #[default]
    Unseeded,
    Seeded(u64),
    Begun(Box<ChaCha8Rng>),
}

impl Random {
    fn next(&mut self) -> Option<u64> {
        if let Self::Seeded(seed) = *self {
            *self = Self::Begun(Box::new(ChaCha8Rng::seed_from_u64(seed)));
        }
        match self {
            Self::Begun(generator) => Some(generator.next_u64()),
            Self::Unseeded | Self::Seeded(_) => None,
        }
    }
}

impl Core {
    /// Returns the next number from the recorded seed.
    pub(crate) fn random(&self, place: CallSite) -> u64 {
        self.lock_in_poll(place).and_then(|mut state| state.random.next()).unwrap_or_default()
    }
}
