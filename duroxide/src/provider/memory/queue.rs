//! The queues of items that wait for an owner.

use std::collections::BTreeSet;

use super::Ready;
use crate::clock::Timestamp;

/// Two queues, so that an item which is ready at once is found without a search through items that are not due yet.
pub(super) struct Queue<T> {
    at_once: BTreeSet<(Timestamp, T)>,
    at: BTreeSet<(Timestamp, T)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { at_once: BTreeSet::new(), at: BTreeSet::new() }
    }
}

impl<T: Ord> Queue<T> {
    pub(super) fn insert(&mut self, ready: Ready, item: T) {
        match ready {
            Ready::AtOnce(time) => self.at_once.insert((time, item)),
            Ready::At(time) => self.at.insert((time, item)),
        };
    }

    pub(super) fn remove(&mut self, ready: Ready, item: T) {
        match ready {
            Ready::AtOnce(time) => self.at_once.remove(&(time, item)),
            Ready::At(time) => self.at.remove(&(time, item)),
        };
    }

    /// Returns all items, oldest first, each with the time since which it is ready, or at which it will be ready.
    pub(super) fn oldest(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, &T)> {
        let at_once = self.at_once.iter().map(move |(time, item)| (Ready::AtOnce(*time).since(now), item));
        let (mut at_once, mut at) = (at_once.peekable(), self.at.iter().map(|(time, item)| (*time, item)).peekable());
        std::iter::from_fn(move || match (at_once.peek(), at.peek()) {
            (Some((one, _)), Some((other, _))) if other < one => at.next(),
            (Some(_), _) => at_once.next(),
            (None, _) => at.next(),
        })
    }
}
