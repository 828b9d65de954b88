//! The only source of random numbers in the library, so that a simulation can replace it by a seed.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

thread_local! {
    /// Each thread has its own stream, seeded by the operating system: no lock, and one system call for each thread
    /// instead of each id. A `fork` would copy the stream, but the tokio runtime does not survive a fork either.
    static NUMBERS: RefCell<ChaCha8Rng> = RefCell::new(seeded_by_the_system());
}

fn seeded_by_the_system() -> ChaCha8Rng {
    let mut seed = [0; 32];
    // Without randomness ids would not be unique and would mix up instances, so a panic is the safe choice.
    getrandom::fill(&mut seed)
        .unwrap_or_else(|error| panic!("the operating system cannot provide random numbers: {error}"));
    ChaCha8Rng::from_seed(seed)
}

/// Returns 64 random bits.
pub(crate) fn bits() -> u64 {
    #[cfg(feature = "testing")]
    if let Some(bits) = seeded::bits() {
        return bits;
    }
    NUMBERS.with_borrow_mut(Rng::next_u64)
}

/// Returns a random id that sorts by the millisecond of its creation.
pub(crate) fn sortable_id() -> Uuid {
    #[cfg(feature = "testing")]
    if let Some(id) = seeded::sortable_id() {
        return id;
    }
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    NUMBERS.with_borrow_mut(|numbers| id_of(millis, numbers))
}

/// Returns an id of version 7: the time and 74 random bits.
fn id_of(millis: u64, numbers: &mut ChaCha8Rng) -> Uuid {
    let mut random = [0; 10];
    numbers.fill_bytes(&mut random);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Replaces the random numbers of one thread by those of a seed. The source is thread-local instead of a parameter
/// because random numbers are drawn in many places, down to `MessageId::new`, and a simulation that misses one is not
/// repeatable.
#[cfg(feature = "testing")]
pub(crate) mod seeded {
    use super::*;

    struct Source {
        numbers: ChaCha8Rng,
        ids: u64,
    }

    thread_local! {
        static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
    }

    /// Replaces the source of this thread by a seed, until it is dropped.
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
            Some(id_of(*ids, numbers))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_with_the_time_and_differ_between_threads() {
        let millis = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let before = millis();
        let ids = [sortable_id(), sortable_id(), std::thread::spawn(sortable_id).join().unwrap()];
        let after = millis();
        for id in ids {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            let time = id.as_u64_pair().0 >> 16;
            assert!((before..=after).contains(&time), "{time} is not from {before} to {after}");
        }
        let random = ids.map(|id| id.as_u64_pair().1);
        assert!(random[0] != random[1] && random[0] != random[2], "{ids:?}");
    }

    #[test]
    fn threads_draw_different_numbers() {
        assert_ne!(bits(), std::thread::spawn(bits).join().unwrap());
    }
}
