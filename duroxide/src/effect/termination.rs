//! The end of an instance from outside. It is derived from the history alone, since the code is not run.

use semver::Version;

use super::{Causes, NoClaims, TurnBuilder, TurnInfo};
use crate::clock::Timestamp;
use crate::history::{Decision, EventKind, HistoryEvent, Input, Started};
use crate::payload::Payload;
use crate::provider::{InstanceRecord, Turn};

/// Builds the turn that terminates an instance.
pub(crate) fn termination(
    record: &InstanceRecord,
    history: &[HistoryEvent],
    reason: &str,
    by: Option<String>,
    now: Timestamp,
) -> Turn {
    let now = history.last().map_or(now, |last| now.max(last.time));
    let kind = EventKind::Decision(Decision::Terminated { reason: reason.to_owned(), by });
    let event = HistoryEvent { id: record.last_event.next(), time: now, kind, payload: Payload::NULL, at: None };
    let started = history.iter().find_map(|event| match &event.kind {
        EventKind::Input(Input::Started(started)) => Some(Started::clone(started)),
        _ => None,
    });
    let started = started.unwrap_or_else(|| Started {
        request: None,
        name: record.name.clone(),
        version: None,
        seed: 0,
        parent: record.parent.clone(),
        headers: Default::default(),
        labels: Default::default(),
    });
    let version = record.version.clone().unwrap_or_else(|| Version::new(0, 0, 0));
    let info = TurnInfo {
        execution: &record.execution,
        version: &version,
        committed: record.last_event,
        started: &started,
        now,
        // A termination is not a failure: it has no cause.
        causes: Causes::Kinds,
    };
    let mut claims = NoClaims;
    let mut builder = TurnBuilder::new(&info, &mut claims);
    builder.turn.version.clone_from(&record.version);
    builder.event(event);
    for (call, op) in crate::replay::open_children(&record.execution, history) {
        builder.close_open_call(call, op);
    }
    builder.turn
}
