//! External events that no wait has consumed yet: one queue for each name.
//!
//! The oldest events belong to the oldest waits, in the order of their first polls: wait number i may take the front of
//! the queue once the queue holds more than i events. An event is consumed when a wait takes it, not when it arrives.
//! So a wait that is dropped consumes nothing, and its event belongs to the next wait.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use crate::history::TextMap;
use crate::id::EventId;
use crate::payload::Payload;

#[derive(Default)]
pub(crate) struct Mailbox {
    boxes: HashMap<String, Named>,
    last_ticket: Ticket,
    /// The number of waits without an event. It is counted, not computed, because every step reads it.
    unserved: usize,
}

/// The position of a wait in the order of first polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ticket(u64);

#[derive(Default)]
struct Named {
    /// Unread events, each with its id: continue-as-new passes them on in their order across names.
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
    /// Returns the waker of the wait that the newest event belongs to.
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
    /// Adds an event; returns the waker of the wait that it belongs to.
    pub(crate) fn push(&mut self, name: &str, id: EventId, event: Unread) -> Option<Waker> {
        self.change(name, |named| {
            named.events.push_back((id, event));
            named.waker_of_newest()
        })
    }

    /// Takes the event that belongs to the wait, and clears its ticket. If there is none, issues a ticket and stores
    /// the waker.
    pub(crate) fn poll(&mut self, name: &str, wait: &mut Option<Ticket>, waker: &Waker) -> Option<(EventId, Payload)> {
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
                return named.events.pop_front().map(|(id, event)| (id, event.payload));
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

    /// Removes a wait; returns the waker of the wait that its event now belongs to.
    pub(crate) fn drop_wait(&mut self, name: &str, wait: Ticket) -> Option<Waker> {
        self.change(name, |named| {
            let index = named.position(wait)?;
            named.waits.remove(index);
            if index < named.events.len() { named.waker_of_newest() } else { None }
        })
    }

    /// Takes the oldest event that belongs to no wait.
    pub(crate) fn take_one(&mut self, name: &str) -> Option<(EventId, Payload)> {
        self.change(name, |named| named.events.remove(named.waits.len()).map(|(id, event)| (id, event.payload)))
    }

    /// Takes all events that belong to no wait.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<(EventId, Payload)> {
        self.change(name, |named| {
            let first = named.waits.len().min(named.events.len());
            named.events.drain(first..).map(|(id, event)| (id, event.payload)).collect()
        })
    }

    /// Removes an unread event. Returns false if there is none with this id.
    pub(crate) fn remove(&mut self, id: EventId) -> bool {
        let holds = |named: &Named| named.events.iter().any(|(event, _)| *event == id);
        let Some(name) = self.boxes.iter().find_map(|(name, named)| holds(named).then(|| name.clone())) else {
            return false;
        };
        self.change(&name, |named| named.events.retain(|(event, _)| *event != id));
        true
    }

    /// Takes all unread events, in the order of arrival.
    pub(crate) fn take_unread(&mut self) -> Vec<(String, Unread)> {
        self.unserved = 0;
        let mut unread = Vec::new();
        for (name, named) in self.boxes.drain() {
            unread.extend(named.events.into_iter().map(|(id, event)| (id, (name.clone(), event))));
        }
        unread.sort_unstable_by_key(|(id, _)| *id);
        unread.into_iter().map(|(_, unread)| unread).collect()
    }

    /// Returns true if a wait has no event yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.unserved > 0
    }

    fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Named) -> T) -> T {
        let named = self.boxes.entry(name.to_owned()).or_default();
        let before = named.unserved();
        let result = change(named);
        self.unserved = self.unserved - before + named.unserved();
        if named.is_idle() {
            // Otherwise memory would grow with the number of names ever used.
            self.boxes.remove(name);
        }
        result
    }
}

#[cfg(test)]
impl Mailbox {
    /// Returns the number of names with an event or a wait.
    pub(super) fn names(&self) -> usize {
        self.boxes.len()
    }
}
