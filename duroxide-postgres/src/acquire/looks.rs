//! The places in the queues at which the next look for work begins.
//!
//! The removed rows of a queue stay in its index until the database has vacuumed them, and a transaction that is open
//! elsewhere, such as a backup, prevents that. A look from the beginning would then pass all items of the past. Therefore a
//! look begins shortly before the last claimed item once many were claimed within a second. The first looks of each second
//! begin at the beginning: they find items that were put back into the queue by others, or that were committed late.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time after which a look begins at the beginning.
const WHOLE: Duration = Duration::from_secs(1);
/// The number of claims before the end of this time after which a look begins elsewhere.
const CLAIMS: usize = 256;
/// The distance by which a look begins before the last claimed item, in microseconds: the usual time from the moment at
/// which an item is made to its commit, with room to spare.
const BEFORE: i64 = 250_000;

/// A queue: the name of an activity, or the name and the version of an orchestration.
pub(super) type Queue = (String, Option<String>);

/// The stored times of readiness from which a look reads: of items that are ready at once, and of others.
pub(super) type From = (i64, i64);

const BEGINNING: From = (i64::MIN, i64::MIN);

#[derive(Default)]
pub(crate) struct Looks(Mutex<State>);

#[derive(Default)]
struct State {
    /// The beginning of the current second.
    begun: Option<Instant>,
    claims: usize,
    from: HashMap<Queue, From>,
}

/// One look.
pub(super) struct Look {
    from: HashMap<Queue, From>,
    /// The time until a look from the beginning. `None`: this is one.
    pub(super) until_whole: Option<Duration>,
}

impl Looks {
    /// Begins a look.
    pub(super) fn begin(&self) -> Look {
        let mut state = self.state();
        let now = Instant::now();
        let left = state.begun.and_then(|begun| (begun + WHOLE).checked_duration_since(now));
        if left.is_none() {
            *state = State { begun: Some(now), ..State::default() };
        }
        if state.claims < CLAIMS {
            return Look { from: HashMap::new(), until_whole: None };
        }
        Look { from: state.from.clone(), until_whole: left }
    }

    /// Records the claim of an item with this stored time of readiness.
    pub(super) fn claimed(&self, queue: Queue, ready_at: i64, is_at_once: bool) {
        let mut state = self.state();
        state.claims += 1;
        let from = state.from.entry(queue).or_insert(BEGINNING);
        let place = if is_at_once { &mut from.0 } else { &mut from.1 };
        *place = ready_at.saturating_sub(BEFORE);
    }

    /// Lets the next look begin at the beginning: an item was put back.
    pub(crate) fn forget(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    pub(super) fn from(&self, queue: &Queue) -> From {
        self.from.get(queue).copied().unwrap_or(BEGINNING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_begins_before_the_last_claim_until_an_item_is_put_back() {
        let looks = Looks::default();
        let queue: Queue = ("flow".to_owned(), None);
        assert!(looks.begin().until_whole.is_none());
        for n in 1..CLAIMS {
            looks.claimed(queue.clone(), 5_000_000, false);
            assert!(looks.begin().until_whole.is_none(), "after {n} claims");
        }
        looks.claimed(queue.clone(), 4_000_000, false);
        let look = looks.begin();
        assert_eq!(look.from(&queue), (i64::MIN, 4_000_000 - BEFORE));
        assert!(look.until_whole.is_some_and(|time| time <= WHOLE));
        assert_eq!(look.from(&("other".to_owned(), None)), BEGINNING);
        looks.forget();
        assert!(looks.begin().until_whole.is_none());
    }
}
