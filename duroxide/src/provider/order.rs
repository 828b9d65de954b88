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
    messages.sort_by_key(|(place, _)| place.arrival);
    // Clocks of senders may be set back. What arrived later is later, so that the order of arrival is kept.
    let mut latest = HashMap::new();
    for (place, _) in messages.iter_mut().filter(|(place, _)| !place.delayed) {
        let latest = latest.entry((place.instance, place.lane)).or_insert(place.at);
        *latest = place.at.max(*latest);
        place.at = *latest;
    }
    // What is equal stays in the order of arrival.
    messages.sort_by_key(|(place, _)| (place.lane, place.at));
    messages.into_iter().map(|(_, message)| message).collect()
}
