//! Places where a history may be cut: the part before the cut is the history of another execution, which continues from
//! there.
//!
//! A cut is legal at the end of a step, since replay compares whole steps, unless the step ends the execution. It needs no
//! user code: the open calls of the kept part follow from its events.

use std::collections::{BTreeMap, BTreeSet};

use super::without_end_from_outside;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::{CallId, EventId};

/// A history that is cut in two.
pub(crate) struct Cut<'h> {
    /// The events up to the cut.
    pub(crate) kept: &'h [HistoryEvent],
    /// The events after it.
    pub(crate) dropped: &'h [HistoryEvent],
    /// The calls of the kept part that have no outcome in it, with the events that scheduled them.
    pub(crate) open: BTreeMap<CallId, &'h HistoryEvent>,
}

/// The nearest legal cuts around an event at which a history cannot be cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotACut {
    pub(crate) before: EventId,
    pub(crate) after: Option<EventId>,
}

impl<'h> Cut<'h> {
    /// Cuts a history after an event. Event 0: the whole history is dropped.
    pub(crate) fn at(history: &'h [HistoryEvent], event: EventId) -> Result<Self, NotACut> {
        let legal = legal_cuts(history);
        if !legal.contains(&event) {
            let before = legal.range(..event).next_back().copied().unwrap_or_default();
            return Err(NotACut { before, after: legal.range(event..).next().copied() });
        }
        let (kept, dropped) = history.split_at(history.partition_point(|other| other.id <= event));
        Ok(Self { kept, dropped, open: open_calls(kept) })
    }

    /// Returns the events that an operator has removed in the dropped part.
    pub(crate) fn removals(&self) -> impl Iterator<Item = EventId> {
        self.dropped.iter().filter_map(|event| match &event.kind {
            EventKind::Input(Input::EventDropped { event }) => Some(*event),
            _ => None,
        })
    }

    /// Returns the outcomes of open calls that the dropped part has recorded.
    pub(crate) fn dropped_outcomes(&self) -> impl Iterator<Item = (CallId, &'h HistoryEvent)> {
        self.dropped.iter().filter_map(|event| match &event.kind {
            EventKind::Input(input) => {
                input.call().filter(|call| self.open.contains_key(call)).map(|call| (call, event))
            }
            EventKind::Decision(_) => None,
        })
    }
}

/// Returns the events after which a history may be cut.
pub(crate) fn legal_cuts(history: &[HistoryEvent]) -> BTreeSet<EventId> {
    let mut legal = BTreeSet::from([EventId(0)]);
    let mut rest = history;
    while let Some((first, following)) = rest.split_first() {
        let is_decision = |event: &&HistoryEvent| matches!(event.kind, EventKind::Decision(_));
        let (decisions, next) = following.split_at(following.iter().take_while(is_decision).count());
        rest = next;
        let EventKind::Input(input) = &first.kind else { continue };
        let last = without_end_from_outside(input, decisions).last();
        let ends = matches!(last, Some(HistoryEvent { kind: EventKind::Decision(last), .. }) if last.is_terminal());
        if !ends {
            legal.insert(last.unwrap_or(first).id);
        }
    }
    legal
}

fn open_calls(history: &[HistoryEvent]) -> BTreeMap<CallId, &HistoryEvent> {
    let mut open = BTreeMap::new();
    for event in history {
        match &event.kind {
            EventKind::Decision(Decision::CallDropped { call }) => drop(open.remove(call)),
            EventKind::Decision(Decision::CallRejected { .. }) => {}
            EventKind::Decision(decision) => open.extend(decision.call().map(|call| (call, event))),
            EventKind::Input(input) => drop(input.call().and_then(|call| open.remove(&call))),
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::payload::Payload;

    fn history(kinds: Vec<EventKind>) -> Vec<HistoryEvent> {
        let event = |(id, kind)| HistoryEvent {
            id: EventId(id),
            time: Timestamp::from_micros(0),
            kind,
            payload: Payload::NULL,
            at: None,
        };
        (1..).zip(kinds).map(event).collect()
    }

    fn timer(call: u64) -> EventKind {
        EventKind::Decision(Decision::TimerCreated { call: CallId(call), due: Timestamp::from_micros(5) })
    }

    fn fired(call: u64) -> EventKind {
        EventKind::Input(Input::TimerFired { call: CallId(call) })
    }

    fn raised() -> EventKind {
        EventKind::Input(Input::raised("note"))
    }

    fn terminated() -> EventKind {
        EventKind::Decision(Decision::Terminated { reason: String::new(), by: None })
    }

    #[test]
    fn history_is_cut_only_between_steps() {
        // Its first event stands for a start.
        let history = history(vec![raised(), timer(1), timer(2), raised(), fired(1), timer(3), terminated()]);
        let cut = |at| Cut::at(&history, EventId(at)).map(|cut| cut.open.into_keys().map(|call| call.0).collect());
        for at in [1, 2] {
            assert_eq!(cut(at), Err::<Vec<u64>, _>(NotACut { before: EventId(0), after: Some(EventId(3)) }));
        }
        assert_eq!(cut(0), Ok(vec![]));
        assert_eq!(cut(3), Ok(vec![1, 2]));
        assert_eq!(cut(4), Ok(vec![1, 2]));
        assert_eq!(cut(5), Err(NotACut { before: EventId(4), after: Some(EventId(6)) }));
        // The end came from outside, so the step before it did not end the execution.
        assert_eq!(cut(6), Ok(vec![2, 3]));
        assert_eq!(cut(7), Err(NotACut { before: EventId(6), after: None }));
    }
}
