//! External events that no wait has consumed yet: one queue per name.
//!
//! The oldest events belong to the oldest waits that were polled: wait number i may take the front of the queue once the
//! queue holds more than i events. An event is consumed when a wait takes it, never before, so a wait that is dropped
//! consumes nothing and its event goes to the next.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use crate::history::TextMap;
use crate::id::EventId;
use crate::payload::Payload;

#[derive(Default)]
pub(crate) struct Mailbox {
    boxes: HashMap<String, Named>,
    last_ticket: Ticket,
    /// How many waits no event belongs to: counted, since every step asks.
    unserved: usize,
}

/// The place of a wait in the order of first polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ticket(u64);

#[derive(Default)]
struct Named {
    /// Unread events, each with its position in history: carried over, they keep their order across names.
    events: VecDeque<(EventId, Unread)>,
    /// Sorted by ticket.
    waits: VecDeque<Wait>,
}

/// The content of an event that no wait has consumed. Its headers are kept for the next execution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unread {
    pub(crate) payload: Payload,
    pub(crate) headers: TextMap,
}

struct Wait {
    ticket: Ticket,
    waker: Waker,
}

impl Named {
    /// The wait that the newest of the events belongs to.
    fn waker_of_newest(&self) -> Option<Waker> {
        let index = self.events.len().checked_sub(1)?;
        self.waits.get(index).map(|wait| wait.waker.clone())
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.waits.binary_search_by_key(&ticket, |wait| wait.ticket).ok()
    }

    fn unserved(&self) -> usize {
        self.waits.len().saturating_sub(self.events.len())
    }

    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.waits.is_empty()
    }
}

impl Mailbox {
    /// Puts an event in; returns whom to wake.
    pub(crate) fn deliver(&mut self, name: &str, id: EventId, event: Unread) -> Option<Waker> {
        self.change(name, |named| {
            named.events.push_back((id, event));
            named.waker_of_newest()
        })
    }

    /// Takes the event that belongs to the wait, which then has no ticket any more; or gives it one, and keeps its waker.
    pub(crate) fn poll(&mut self, name: &str, wait: &mut Option<Ticket>, waker: &Waker) -> Option<Payload> {
        let new = Ticket(self.last_ticket.0 + 1);
        self.last_ticket = new;
        self.change(name, |named| {
            let position = wait.and_then(|ticket| named.position(ticket));
            let index = position.unwrap_or(named.waits.len());
            if index < named.events.len() {
                if position.is_some() {
                    named.waits.remove(index);
                }
                *wait = None;
                return named.events.pop_front().map(|(_, event)| event.payload);
            }
            match position {
                Some(index) => named.waits[index].waker.clone_from(waker),
                None => {
                    named.waits.push_back(Wait { ticket: new, waker: waker.clone() });
                    *wait = Some(new);
                }
            }
            None
        })
    }

    /// Removes a wait; returns whom to wake, because an event that belonged to it now belongs to another.
    pub(crate) fn drop_wait(&mut self, name: &str, wait: Ticket) -> Option<Waker> {
        self.change(name, |named| {
            let index = named.position(wait)?;
            named.waits.remove(index);
            if index < named.events.len() { named.waker_of_newest() } else { None }
        })
    }

    /// Takes the oldest event that belongs to no wait.
    pub(crate) fn take_one(&mut self, name: &str) -> Option<Payload> {
        self.change(name, |named| named.events.remove(named.waits.len()).map(|(_, event)| event.payload))
    }

    /// Takes all events that belong to no wait.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<Payload> {
        self.change(name, |named| {
            let first = named.waits.len().min(named.events.len());
            named.events.drain(first..).map(|(_, event)| event.payload).collect()
        })
    }

    /// Takes everything that is unread, in the order of arrival.
    pub(crate) fn take_unread(&mut self) -> Vec<(String, Unread)> {
        self.unserved = 0;
        let mut unread = Vec::new();
        for (name, named) in self.boxes.drain() {
            unread.extend(named.events.into_iter().map(|(id, event)| (id, (name.clone(), event))));
        }
        unread.sort_unstable_by_key(|(id, _)| *id);
        unread.into_iter().map(|(_, unread)| unread).collect()
    }

    /// Whether anybody waits for an event that has not come.
    pub(crate) fn is_awaited(&self) -> bool {
        self.unserved > 0
    }

    fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Named) -> T) -> T {
        let named = self.boxes.entry(name.to_owned()).or_default();
        let before = named.unserved();
        let result = change(named);
        self.unserved = self.unserved - before + named.unserved();
        if named.is_idle() {
            // So that memory does not grow with the number of names ever used.
            self.boxes.remove(name);
        }
        result
    }
}

#[cfg(test)]
impl Mailbox {
    /// How many names hold something.
    pub(super) fn names(&self) -> usize {
        self.boxes.len()
    }
}
