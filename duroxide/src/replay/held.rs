//! External events that wait outside of the history until the code asks for them.
//!
//! An execution that reads one event and continues as new would otherwise record all unread events, and its successor
//! would record them again: n events in n executions cost n² records. So the unread events of an earlier execution are
//! *held*: they stay stored messages, and the execution receives one when a wait for its name is pending, or when the
//! code asks for it in the middle of a step. That event is then recorded before the input of the step. No wait for its
//! name was pending there, so on replay its delivery wakes nothing, and the code finds it at the same place.
//!
//! As long as one event is held, later events are held, too, so that they do not overtake it. When an execution continues
//! as new, its successor takes over the held events as they are.

use std::collections::VecDeque;

use crate::hash::HashMap;
use crate::message::Message;

/// The position of an event in the order of arrival, within one live copy and its successors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Arrival(u64);

/// The held events, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    by_name: HashMap<String, VecDeque<(Arrival, Message)>>,
    last: Arrival,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns the position of an event that arrives now.
    pub(super) fn next_arrival(&mut self) -> Arrival {
        self.last.0 += 1;
        self.last
    }

    pub(super) fn push(&mut self, name: &str, message: Message) {
        let entry = (self.next_arrival(), message);
        match self.by_name.get_mut(name) {
            Some(events) => events.push_back(entry),
            None => drop(self.by_name.insert(name.to_owned(), VecDeque::from([entry]))),
        }
    }

    /// Returns the position of the oldest event of a name.
    pub(super) fn oldest(&self, name: &str) -> Option<Arrival> {
        self.by_name.get(name)?.front().map(|(arrival, _)| *arrival)
    }

    /// Takes the oldest event of a name.
    pub(super) fn pop(&mut self, name: &str) -> Option<(Arrival, Message)> {
        let events = self.by_name.get_mut(name)?;
        let oldest = events.pop_front();
        if events.is_empty() {
            self.by_name.remove(name);
        }
        oldest
    }

    /// Returns all events, in no order.
    pub(crate) fn into_events(self) -> impl Iterator<Item = (Arrival, Message)> {
        self.by_name.into_values().flatten()
    }
}
