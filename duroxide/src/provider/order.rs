//! The order in which messages are delivered: see [`MessageRow::lane`](super::MessageRow::lane).

use std::collections::HashMap;
use std::hash::Hash;

use crate::clock::Timestamp;
use crate::message::Lane;

/// What decides when a message is delivered.
pub(crate) struct Place<I> {
    /// Its instance.
    pub(crate) instance: I,
    pub(crate) lane: Lane,
    pub(crate) arrival: i64,
    /// Whether it has a time of its own.
    pub(crate) delayed: bool,
    /// That time; else that of its arrival, by the clock of its sender.
    pub(crate) at: Timestamp,
}

/// Sorts what was found, for one instance or for several.
pub(crate) fn in_order<I: Copy + Eq + Hash, M>(mut messages: Vec<(Place<I>, M)>) -> Vec<M> {
    // Clocks of senders may be set back. What arrived later is later, so that the order of arrival is kept.
    let mut latest = HashMap::new();
    for n in positions(messages.iter().map(|(place, _)| place.arrival)) {
        let place = &mut messages[n].0;
        if !place.delayed {
            let latest = latest.entry((place.instance, place.lane)).or_insert(place.at);
            *latest = place.at.max(*latest);
            place.at = *latest;
        }
    }
    let order = positions(messages.iter().map(|(place, _)| (place.lane, place.at, place.arrival)));
    let mut messages: Vec<_> = messages.into_iter().map(|(_, message)| Some(message)).collect();
    order.into_iter().filter_map(|n| messages[n].take()).collect()
}

/// The positions of keys, those of the least first. Only keys are moved, and there is one sort for all kinds of messages.
fn positions<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut keys: Vec<(K, usize)> = keys.enumerate().map(|(n, key)| (key, n)).collect();
    keys.sort_unstable();
    keys.into_iter().map(|(_, n)| n).collect()
}
