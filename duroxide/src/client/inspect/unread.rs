//! The external events of an instance that its code has not read.
//!
//! An event is read when a wait takes it. A wait that finds an event takes it without a trace in the history, except that
//! the number of its call is missing there. So the count of recorded events is a lower bound: it is less by the number of
//! missing calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::why::Why;
use super::{Fact, Inspection};
use crate::clock::Timestamp;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::{CallId, EventId};
use crate::provider::MessagePreview;

/// Unread external events of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadEvents {
    /// The name of the events.
    pub name: String,
    /// The number of events.
    pub count: u64,
    /// When the first one was recorded or stored.
    pub since: Timestamp,
}

/// The number of names in a sentence.
const SHOWN: usize = 3;

/// Counts the unread events of an instance by name: those in its history, and those among its messages.
pub(super) fn unread_events(history: &[HistoryEvent], messages: &[MessagePreview]) -> Vec<UnreadEvents> {
    let mut unread = recorded(history);
    for message in messages {
        let Some(name) = message.event_name() else { continue };
        match unread.iter_mut().find(|events| events.name == name) {
            Some(events) => events.count += 1,
            None => unread.push(UnreadEvents { name, count: 1, since: message.stored_at }),
        }
    }
    unread.sort_by_key(|events| events.since);
    unread
}

/// The recorded events and the waits of one name.
#[derive(Default)]
struct Mailbox {
    unread: VecDeque<(EventId, Timestamp)>,
    waits: BTreeSet<CallId>,
    /// The events that belong to a wait.
    served: BTreeMap<CallId, (EventId, Timestamp)>,
}

impl Mailbox {
    fn raised(&mut self, event: (EventId, Timestamp)) {
        match self.waits.pop_first() {
            Some(oldest) => drop(self.served.insert(oldest, event)),
            None => self.unread.push_back(event),
        }
    }

    fn awaited(&mut self, call: CallId) {
        // It is recorded, so it has found no event: the others have taken them all.
        if self.waits.is_empty() {
            self.unread.clear();
        }
        self.waits.insert(call);
    }

    fn dropped(&mut self, call: CallId) {
        self.waits.remove(&call);
        if let Some(event) = self.served.remove(&call) {
            match self.waits.pop_first() {
                Some(oldest) => drop(self.served.insert(oldest, event)),
                None => self.unread.push_front(event),
            }
        }
    }
}

fn recorded(history: &[HistoryEvent]) -> Vec<UnreadEvents> {
    let (mut boxes, mut calls) = (BTreeMap::<&str, Mailbox>::new(), BTreeSet::new());
    for event in history {
        match &event.kind {
            EventKind::Input(Input::EventRaised { name, .. }) => {
                boxes.entry(name).or_default().raised((event.id, event.time));
            }
            EventKind::Input(Input::EventDropped { event }) => {
                boxes.values_mut().for_each(|mailbox| mailbox.unread.retain(|(id, _)| id != event));
            }
            EventKind::Decision(Decision::EventAwaited { call, name }) => boxes.entry(name).or_default().awaited(*call),
            EventKind::Decision(Decision::CallDropped { call }) => {
                boxes.values_mut().for_each(|mailbox| mailbox.dropped(*call));
            }
            _ => {}
        }
        if let EventKind::Decision(decision) = &event.kind {
            calls.extend(decision.call());
        }
    }
    let last = calls.last().map_or(0, |call| call.0);
    let missing = usize::try_from(last).unwrap_or(usize::MAX).saturating_sub(calls.len());
    let unread = boxes.into_iter().filter_map(|(name, mailbox)| {
        let count = mailbox.unread.len().saturating_sub(missing);
        let (_, since) = *mailbox.unread.get(missing)?;
        Some(UnreadEvents { name: name.to_owned(), count: count as u64, since })
    });
    unread.collect()
}

impl Inspection {
    /// Adds the unread events to the reason of an instance that waits for an event: it may have been raised under another
    /// name.
    pub(super) fn with_unread(&self, mut why: Why) -> Why {
        if self.unread.is_empty() {
            return why;
        }
        let shown = self.unread.iter().take(SHOWN).map(|events| format!("{} `{}`", events.count, events.name));
        let mut parts: Vec<_> = shown.collect();
        let others: u64 = self.unread.iter().skip(SHOWN).map(|events| events.count).sum();
        parts.extend((others > 0).then(|| format!("{others} of other names")));
        let more = if self.more_messages { ", and more" } else { "" };
        why.text += &format!(" Unread: {}{more}.", parts.join(", "));
        let facts = self.unread.iter().take(SHOWN).cloned();
        why.facts.extend(facts.map(|UnreadEvents { name, count, .. }| Fact::Unread { event: name, count }));
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn raised(name: &str) -> EventKind {
        EventKind::Input(Input::raised(name))
    }

    fn awaited(call: u64, name: &str) -> EventKind {
        EventKind::Decision(Decision::EventAwaited { call: CallId(call), name: name.to_owned() })
    }

    fn dropped(call: u64) -> EventKind {
        EventKind::Decision(Decision::CallDropped { call: CallId(call) })
    }

    fn unread(kinds: Vec<EventKind>) -> Vec<(String, u64)> {
        let event = |(id, kind)| {
            let (time, payload) = (Timestamp::from_micros(0), Payload::NULL);
            HistoryEvent { id: EventId(id), time, kind, payload, at: None }
        };
        let history: Vec<_> = (1..).zip(kinds).map(event).collect();
        unread_events(&history, &[]).into_iter().map(|events| (events.name, events.count)).collect()
    }

    #[test]
    fn recorded_events_are_unread_until_a_wait_takes_them() {
        let of = |name: &str, count| (name.to_owned(), count);
        assert_eq!(unread(vec![awaited(1, "a"), raised("b"), raised("b")]), [of("b", 2)]);
        assert_eq!(unread(vec![awaited(1, "a"), raised("a"), raised("a")]), [of("a", 1)]);
        assert_eq!(unread(vec![raised("a"), awaited(1, "a")]), [], "the wait would have found it");
        assert_eq!(unread(vec![awaited(1, "a"), raised("a"), dropped(1), awaited(2, "b")]), [of("a", 1)]);
        let two = vec![awaited(1, "a"), awaited(2, "a"), raised("a"), dropped(1)];
        assert_eq!(unread(two), [], "the event belongs to the second wait");
        let removal = EventKind::Input(Input::EventDropped { event: EventId(1) });
        assert_eq!(unread(vec![raised("b"), removal]), []);
        // Call 1 may have read one of them.
        assert_eq!(unread(vec![raised("b"), raised("b"), raised("b"), awaited(2, "a")]), [of("b", 2)]);
    }
}
