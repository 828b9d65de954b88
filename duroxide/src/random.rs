//! Randomness: whatever the library draws, it draws here, so that a simulation can give numbers of its own.

use uuid::Uuid;

/// 64 random bits.
pub(crate) fn bits() -> u64 {
    #[cfg(feature = "testing")]
    if let Some(bits) = seeded::bits() {
        return bits;
    }
    Uuid::new_v4().as_u64_pair().0
}

/// A random id that is sorted by the time of its making.
pub(crate) fn sortable_id() -> Uuid {
    #[cfg(feature = "testing")]
    if let Some(id) = seeded::sortable_id() {
        return id;
    }
    Uuid::now_v7()
}

/// Numbers from a seed, for all that happens on one thread. They are found through the thread and not handed on, because
/// what draws is everywhere, down to `MessageId::new`, and a simulation that misses one place does not repeat.
#[cfg(feature = "testing")]
pub(crate) mod seeded {
    use std::cell::RefCell;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use uuid::Uuid;

    struct Source {
        numbers: ChaCha8Rng,
        ids: u64,
    }

    thread_local! {
        static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
    }

    /// While it lives, what this thread draws comes from a seed.
    #[must_use]
    pub(crate) struct Seeded(Option<Source>);

    impl Seeded {
        pub(crate) fn new(seed: u64) -> Self {
            let source = Source { numbers: ChaCha8Rng::seed_from_u64(seed), ids: 0 };
            Self(SOURCE.replace(Some(source)))
        }
    }

    impl Drop for Seeded {
        fn drop(&mut self) {
            SOURCE.set(self.0.take());
        }
    }

    pub(super) fn bits() -> Option<u64> {
        SOURCE.with_borrow_mut(|source| source.as_mut().map(|source| source.numbers.next_u64()))
    }

    pub(super) fn sortable_id() -> Option<Uuid> {
        SOURCE.with_borrow_mut(|source| {
            let Source { numbers, ids } = source.as_mut()?;
            *ids += 1;
            let mut random = [0; 10];
            numbers.fill_bytes(&mut random);
            Some(uuid::Builder::from_unix_timestamp_millis(*ids, &random).into_uuid())
        })
    }
}
