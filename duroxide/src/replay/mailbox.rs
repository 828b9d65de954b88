//! External events that no wait has consumed yet: one queue per name.
//!
//! The oldest events belong to the oldest waits that were polled: wait number i may take the front of the queue once the
//! queue holds more than i events. An event is consumed when a wait takes it, never before, so a wait that is dropped
//! consumes nothing and its event goes to the next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use crate::id::{CallId, EventId};
use crate::payload::Payload;

#[derive(Default)]
pub(crate) struct Mailbox {
    boxes: HashMap<String, Named>,
}

#[derive(Default)]
struct Named {
    /// Unread events, each with its position in history: carried over, they keep their order across names.
    events: VecDeque<(EventId, Payload)>,
    waits: VecDeque<Wait>,
}

struct Wait {
    call: CallId,
    waker: Waker,
}

impl Named {
    /// The wait that the newest of the events belongs to.
    fn waker_of_newest(&self) -> Option<Waker> {
        let index = self.events.len().checked_sub(1)?;
        self.waits.get(index).map(|wait| wait.waker.clone())
    }

    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.waits.is_empty()
    }
}

impl Mailbox {
    /// Puts an event in; returns whom to wake.
    pub(crate) fn deliver(&mut self, name: &str, id: EventId, payload: Payload) -> Option<Waker> {
        let named = match self.boxes.get_mut(name) {
            Some(named) => named,
            None => self.boxes.entry(name.to_owned()).or_default(),
        };
        named.events.push_back((id, payload));
        named.waker_of_newest()
    }

    /// Takes the event that belongs to the wait, or registers the wait for it.
    pub(crate) fn poll(&mut self, name: &str, call: CallId, waker: &Waker) -> Option<Payload> {
        let named = self.boxes.entry(name.to_owned()).or_default();
        let position = named.waits.iter().position(|wait| wait.call == call);
        let index = position.unwrap_or(named.waits.len());
        if index < named.events.len() {
            if position.is_some() {
                named.waits.remove(index);
            }
            let event = named.events.pop_front();
            self.tidy(name);
            return event.map(|(_, payload)| payload);
        }
        match position {
            Some(index) => named.waits[index].waker.clone_from(waker),
            None => named.waits.push_back(Wait { call, waker: waker.clone() }),
        }
        None
    }

    /// Removes a wait; returns whom to wake, because an event that belonged to it now belongs to another.
    pub(crate) fn drop_wait(&mut self, name: &str, call: CallId) -> Option<Waker> {
        let named = self.boxes.get_mut(name)?;
        let index = named.waits.iter().position(|wait| wait.call == call)?;
        named.waits.remove(index);
        let next = if index < named.events.len() { named.waker_of_newest() } else { None };
        self.tidy(name);
        next
    }

    /// Takes the oldest event that belongs to no wait.
    pub(crate) fn take_one(&mut self, name: &str) -> Option<Payload> {
        let named = self.boxes.get_mut(name)?;
        let event = named.events.remove(named.waits.len());
        self.tidy(name);
        event.map(|(_, payload)| payload)
    }

    /// Takes all events that belong to no wait.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<Payload> {
        let Some(named) = self.boxes.get_mut(name) else { return Vec::new() };
        let first = named.waits.len().min(named.events.len());
        let events = named.events.drain(first..).map(|(_, payload)| payload).collect();
        self.tidy(name);
        events
    }

    /// Takes everything that is unread, in the order of arrival.
    pub(crate) fn take_unread(&mut self) -> Vec<(String, Payload)> {
        let mut unread = BTreeMap::new();
        for (name, named) in self.boxes.drain() {
            unread.extend(named.events.into_iter().map(|(id, payload)| (id, (name.clone(), payload))));
        }
        unread.into_values().collect()
    }

    /// Whether anybody waits for an event.
    pub(crate) fn is_awaited(&self) -> bool {
        self.boxes.values().any(|named| !named.waits.is_empty())
    }

    /// Forgets a name that holds nothing, so that memory does not grow with the number of names ever used.
    fn tidy(&mut self, name: &str) {
        if self.boxes.get(name).is_some_and(Named::is_idle) {
            self.boxes.remove(name);
        }
    }
}
