//! The order in which messages are delivered: see [`MessageRow::lane`](super::MessageRow::lane).

use std::collections::HashMap;
use std::hash::Hash;

use crate::clock::Timestamp;
use crate::message::Lane;

/// The facts that decide when a message is delivered.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryKey<I> {
    /// Its instance.
    pub instance: I,
    /// Its lane.
    pub lane: Lane,
    /// Its position among the stored messages of the instance: a later message has a higher one.
    pub arrival: i64,
    /// True if the message has a time of its own.
    pub delayed: bool,
    /// That time; otherwise the time of its arrival, by the clock of its sender.
    pub at: Timestamp,
}

/// Sorts messages of one instance, or of several, into the order of delivery.
pub fn in_order<I: Copy + Eq + Hash, M>(mut messages: Vec<(DeliveryKey<I>, M)>) -> Vec<M> {
    // The clock of a sender may be set back: a later arrival gets at least the time of the earlier ones.
    let mut latest = HashMap::new();
    for n in positions(messages.iter().map(|(key, _)| key.arrival)) {
        let key = &mut messages[n].0;
        if !key.delayed {
            let latest = latest.entry((key.instance, key.lane)).or_insert(key.at);
            *latest = key.at.max(*latest);
            key.at = *latest;
        }
    }
    let order = positions(messages.iter().map(|(key, _)| (key.lane, key.at, key.arrival)));
    let mut messages: Vec<_> = messages.into_iter().map(|(_, message)| Some(message)).collect();
    order.into_iter().filter_map(|n| messages[n].take()).collect()
}

/// Returns the positions of keys, the least first. Only the keys are moved, and one sort serves all types of messages.
fn positions<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut keys: Vec<(K, usize)> = keys.enumerate().map(|(n, key)| (key, n)).collect();
    keys.sort_unstable();
    keys.into_iter().map(|(_, n)| n).collect()
}
