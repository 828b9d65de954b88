//! Random numbers. They follow from the seed that the start records, so they are no decisions.

use chacha20::rand_core::Rng;

use crate::replay::{CallSite, Core};

impl Core {
    /// Returns the next number from the recorded seed.
    pub(crate) fn random(&self, place: CallSite) -> u64 {
        self.lock_in_poll(place).and_then(|mut state| state.random.as_mut().map(Rng::next_u64)).unwrap_or_default()
    }
}
