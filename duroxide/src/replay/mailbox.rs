//! External events that no wait has consumed yet: one queue for each name.
//!
//! The oldest events belong to the oldest waits, in the order of their first polls: wait number i may take the front of
//! the queue once the queue holds more than i events. An event is consumed when a wait takes it, not when it arrives.
//! So a wait that is dropped consumes nothing, and its event belongs to the next wait.

use std::collections::{BTreeSet, VecDeque};
use std::task::Waker;

use super::held::{Arrival, Held};
use crate::clock::Timestamp;
use crate::error::UnreadMessage;
use crate::hash::HashMap;
use crate::history::{Input, TextMap};
use crate::id::EventId;
use crate::message::Message;
use crate::payload::Payload;

#[derive(Default)]
pub(crate) struct Mailbox {
    boxes: HashMap<String, Named>,
    /// Events that are delivered when the code asks for them.
    pub(super) held: Held,
    /// The held events that the running step has asked for.
    pulled: Vec<(Arrival, Message)>,
    /// The arrival of the held event that is delivered next.
    delivering: Option<Arrival>,
    /// The names with a pending wait before that event is delivered. The step that follows asks for no events of them,
    /// because on replay such an event would resolve that wait before the input of the step.
    blocked: Vec<String>,
    last_ticket: Ticket,
    /// The number of waits without an event. It is counted, not computed, because every step reads it.
    unserved: usize,
    /// The names of these waits.
    awaited: BTreeSet<String>,
    /// When the last wait was made.
    last_wait: Option<Timestamp>,
}

/// The waits without an event.
pub(super) struct AwaitedEvents<'a> {
    pub(super) count: u64,
    /// The name of the events, if all have one name.
    pub(super) only: Option<&'a str>,
    /// When the wait was made; of several waits, the last one.
    pub(super) last: Option<Timestamp>,
}

/// The position of a wait in the order of first polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ticket(u64);

#[derive(Default)]
struct Named {
    /// Unread events, sorted by arrival.
    events: VecDeque<Entry>,
    /// Sorted by ticket.
    waits: VecDeque<Wait>,
}

struct Entry {
    /// Continue-as-new passes events on in their order across names.
    arrival: Arrival,
    /// Its name in a fault. An event that the running step has pulled is named by its message, since its event id is not
    /// known before the step ends.
    id: UnreadMessage,
    event: Unread,
}

/// The content of an event that no wait has consumed. Its headers are kept for the next execution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unread {
    pub(crate) payload: Payload,
    pub(crate) headers: TextMap,
    pub(crate) by: Option<String>,
}

/// An unread event that is passed on to the next execution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UnreadEvent {
    pub(crate) arrival: Arrival,
    pub(crate) name: String,
    pub(crate) event: Unread,
}

struct Wait {
    ticket: Ticket,
    since: Timestamp,
    waker: Waker,
}

impl Entry {
    fn into_content(self) -> (UnreadMessage, Payload) {
        (self.id, self.event.payload)
    }
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
    /// Adds a recorded event; returns the waker of the wait that it belongs to.
    pub(crate) fn push(&mut self, name: &str, id: EventId, event: Unread) -> Option<Waker> {
        let arrival = match self.delivering.take() {
            Some(arrival) => arrival,
            None => self.held.next_arrival(),
        };
        self.change(name, |named| {
            named.events.push_back(Entry { arrival, id: UnreadMessage::Recorded(id), event });
            named.waker_of_newest()
        })
    }

    /// Holds an event, unless a wait for it is pending. Returns it in this case.
    pub(super) fn hold(&mut self, name: &str, message: Message) -> Option<Message> {
        if self.boxes.get(name).is_some_and(|named| named.unserved() > 0) {
            return Some(message);
        }
        self.held.push(name, message);
        None
    }

    /// Takes the oldest held event that a pending wait is for. It must be delivered next.
    pub(super) fn take_awaited(&mut self) -> Option<Message> {
        if self.unserved == 0 || self.held.is_empty() {
            return None;
        }
        let awaited = self.boxes.iter().filter(|(_, named)| named.unserved() > 0);
        let awaited: Vec<String> = awaited.map(|(name, _)| name.clone()).collect();
        let (_, oldest) = awaited.iter().filter_map(|name| Some((self.held.oldest(name)?, name))).min()?;
        let (arrival, message) = self.held.pop(oldest)?;
        (self.delivering, self.blocked) = (Some(arrival), awaited);
        Some(message)
    }

    /// Ends a step whose input was delivered with this id. Returns the held events that it has asked for. They precede
    /// the input in the history: the first takes over its id, and the others and the input have the ids that follow.
    pub(super) fn take_pulled(&mut self, input: &Input, first: EventId) -> Vec<Message> {
        self.blocked.clear();
        let pulled = std::mem::take(&mut self.pulled);
        let ids = (first.0..).map(|id| UnreadMessage::Recorded(EventId(id)));
        if let (Input::EventRaised { name, .. }, Some(id)) = (input, ids.clone().nth(pulled.len()))
            && let Some(newest) = self.boxes.get_mut(name).and_then(|named| named.events.back_mut())
            && newest.id == UnreadMessage::Recorded(first)
        {
            newest.id = id;
        }
        for ((arrival, message), id) in pulled.iter().zip(ids) {
            if let Input::EventRaised { name, .. } = &message.input
                && let Some(named) = self.boxes.get_mut(name)
                && let Ok(index) = named.events.binary_search_by_key(arrival, |entry| entry.arrival)
            {
                named.events[index].id = id;
            }
        }
        pulled.into_iter().map(|(_, message)| message).collect()
    }

    /// Moves a held event of this name to the unread ones. Returns false if there is none.
    fn pull(&mut self, name: &str) -> bool {
        if self.blocked.iter().any(|blocked| blocked == name) {
            return false;
        }
        let Some((arrival, message)) = self.held.pop(name) else { return false };
        if let Input::EventRaised { headers, by, .. } = &message.input {
            let (payload, headers, by) = (message.payload.clone(), headers.clone(), by.clone());
            let event = Unread { payload, headers, by };
            let id = UnreadMessage::Queued(message.id);
            self.change(name, |named| named.events.push_back(Entry { arrival, id, event }));
        }
        self.pulled.push((arrival, message));
        true
    }

    /// Pulls a held event if there is no unread one at this position of the queue.
    fn pull_up_to(&mut self, name: &str, position: impl Fn(&Named) -> usize) {
        if self.held.is_empty() {
            return;
        }
        let lacks = |named: Option<&Named>| match named {
            Some(named) => named.events.len() <= position(named),
            None => true,
        };
        while lacks(self.boxes.get(name)) && self.pull(name) {}
    }

    /// Takes the event that belongs to the wait, and clears its ticket. If there is none, issues a ticket and stores
    /// the waker.
    pub(crate) fn poll(
        &mut self,
        name: &str,
        wait: &mut Option<Ticket>,
        waker: &Waker,
        now: Timestamp,
    ) -> Option<(UnreadMessage, Payload)> {
        let new = Ticket(self.last_ticket.0 + 1);
        self.last_ticket = new;
        self.pull_up_to(name, |named| wait.and_then(|ticket| named.position(ticket)).unwrap_or(named.waits.len()));
        let had_ticket = wait.is_some();
        let taken = self.change(name, |named| {
            let position = wait.and_then(|ticket| named.position(ticket));
            let index = position.unwrap_or(named.waits.len());
            if index < named.events.len() {
                if position.is_some() {
                    named.waits.remove(index);
                }
                *wait = None;
                return named.events.pop_front().map(Entry::into_content);
            }
            match position {
                Some(index) => named.waits[index].waker.clone_from(waker),
                None => {
                    named.waits.push_back(Wait { ticket: new, since: now, waker: waker.clone() });
                    *wait = Some(new);
                }
            }
            None
        });
        if !had_ticket && wait.is_some() {
            self.last_wait = Some(now);
        }
        taken
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
    pub(crate) fn take_one(&mut self, name: &str) -> Option<(UnreadMessage, Payload)> {
        self.pull_up_to(name, |named| named.waits.len());
        self.change(name, |named| named.events.remove(named.waits.len()).map(Entry::into_content))
    }

    /// Takes all events that belong to no wait.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<(UnreadMessage, Payload)> {
        while self.pull(name) {}
        self.change(name, |named| {
            let first = named.waits.len().min(named.events.len());
            named.events.drain(first..).map(Entry::into_content).collect()
        })
    }

    /// Removes an unread event. Returns false if there is none with this id.
    pub(crate) fn remove(&mut self, id: EventId) -> bool {
        let id = UnreadMessage::Recorded(id);
        let holds = |named: &Named| named.events.iter().any(|entry| entry.id == id);
        let Some(name) = self.boxes.iter().find_map(|(name, named)| holds(named).then(|| name.clone())) else {
            return false;
        };
        self.change(&name, |named| named.events.retain(|entry| entry.id != id));
        true
    }

    /// Takes all unread events, in the order of arrival.
    pub(crate) fn take_unread(&mut self) -> Vec<UnreadEvent> {
        (self.unserved, self.awaited) = (0, BTreeSet::new());
        let mut unread = Vec::new();
        for (name, named) in self.boxes.drain() {
            let events = named.events.into_iter();
            let named = |Entry { arrival, event, .. }| UnreadEvent { arrival, name: name.clone(), event };
            unread.extend(events.map(named));
        }
        unread.sort_unstable_by_key(|unread| unread.arrival);
        unread
    }

    /// Returns true if a wait has no event yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.unserved > 0
    }

    /// Returns the waits without an event.
    pub(super) fn awaited(&self) -> Option<AwaitedEvents<'_>> {
        let name = self.awaited.first()?;
        // The waits that have no event are the last ones.
        let newest = self.boxes.get(name).and_then(|named| named.waits.back());
        let is_only = self.awaited.len() == 1;
        let last = if is_only { newest.map(|wait| wait.since) } else { self.last_wait };
        Some(AwaitedEvents { count: self.unserved as u64, only: is_only.then_some(name), last })
    }

    fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Named) -> T) -> T {
        let named = self.boxes.entry(name.to_owned()).or_default();
        let before = named.unserved();
        let result = change(named);
        let after = named.unserved();
        self.unserved = self.unserved - before + after;
        match (before, after) {
            (0, 1..) => drop(self.awaited.insert(name.to_owned())),
            (1.., 0) => drop(self.awaited.remove(name)),
            _ => {}
        }
        if named.is_idle() {
            // Otherwise memory would grow with the number of names ever used.
            self.boxes.remove(name);
        }
        result
    }
}

#[cfg(test)]
impl Mailbox {
    /// Returns the names of the waits without an event.
    pub(super) fn unserved_names(&self) -> Vec<String> {
        self.boxes.iter().flat_map(|(name, named)| std::iter::repeat_n(name.clone(), named.unserved())).collect()
    }

    /// Returns the number of names with an event or a wait.
    pub(super) fn names(&self) -> usize {
        self.boxes.len()
    }
}
