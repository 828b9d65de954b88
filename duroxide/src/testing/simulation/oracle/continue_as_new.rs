//! Checks continue-as-new: the next execution receives the input, first of all the cancel request, and the unread events
//! of each name in their order, before newer ones.

use super::{Ended, Stored};
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::ExecutionId;
use crate::payload::Payload;
use crate::replay::Unread;
use crate::testing::simulation::record::Record;

/// An input that is carried over: the name of an event, or `None` for a request to cancel; and its content.
type Carried = (Option<String>, Unread);

pub(super) fn check(stored: &Stored, record: &Record, found: &mut Vec<String>) {
    for (id, ended) in &stored.executions {
        let before = before(id);
        let first =
            id.number == 1 || !stored.executions.contains_key(&before) || record.abandoned.contains_key(&before);
        if first {
            follow(stored, record, id.clone(), ended, found);
        }
    }
}

fn before(id: &ExecutionId) -> ExecutionId {
    ExecutionId { number: id.number.saturating_sub(1), ..id.clone() }
}

/// Follows an instance from one execution to the next, and compares the inputs of each with those carried over to it.
fn follow<'a>(stored: &'a Stored, record: &Record, mut id: ExecutionId, mut ended: &'a Ended, found: &mut Vec<String>) {
    let mut waiting: Vec<Carried> = Vec::new();
    loop {
        let Some(last) = ended.events.last() else { return };
        if !matches!(last.kind, EventKind::Decision(Decision::ContinuedAsNew { .. })) {
            return;
        }
        id.number += 1;
        let Some(next) = stored.executions.get(&id) else {
            if record.pruned.contains(&id) {
                return;
            }
            return found.push(format!("{id}: the execution before it has continued as new, and it does not exist"));
        };
        let cancel = ended.leftovers.cancel.iter().map(|_| (None, no_content()));
        let unread = ended.leftovers.unread.iter().map(|unread| (Some(unread.name.clone()), unread.event.clone()));
        waiting = cancel.chain(unread).chain(waiting).collect();
        let inputs: Vec<&HistoryEvent> = next.events.iter().filter(|e| matches!(e.kind, EventKind::Input(_))).collect();
        let Some((start, inputs)) = inputs.split_first() else {
            // It was terminated before its first turn.
            return;
        };
        if start.payload != last.payload {
            found.push(format!("{id}: its input differs from that of the continue-as-new"));
        }
        if matches!(&start.kind, EventKind::Input(Input::Started(started)) if started.request.is_some()) {
            // The execution has received a request with its start. A second one has no effect.
            waiting.retain(|(name, _)| name.is_some());
        }
        for input in inputs {
            let carried = carried(input);
            // Only a cancel request comes before all others. An event is delivered when the code asks for it.
            let of_this_name = |(name, _): &Carried| name.is_none() || carried.as_ref().is_some_and(|c| c.0 == *name);
            let Some(first) = waiting.iter().position(of_this_name) else { continue };
            let expected = waiting.remove(first);
            if carried.as_ref() != Some(&expected) {
                let name = expected.0.as_deref().unwrap_or("a request to cancel");
                return found
                    .push(format!("{id}: {name} of the execution before it should come first: {:?}", input.kind));
            }
        }
        ended = next;
    }
}

fn no_content() -> Unread {
    Unread { payload: Payload::NULL, headers: Default::default(), by: None }
}

fn carried(event: &HistoryEvent) -> Option<Carried> {
    match &event.kind {
        EventKind::Input(Input::EventRaised { name, headers, by }) => Some((
            Some(name.clone()),
            Unread { payload: event.payload.clone(), headers: headers.clone(), by: by.clone() },
        )),
        EventKind::Input(Input::CancelRequested { .. }) => Some((None, no_content())),
        _ => None,
    }
}
