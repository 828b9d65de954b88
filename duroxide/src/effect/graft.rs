//! The rows of an execution that begins with a part of another one's history.
//!
//! The open calls of the kept part are made again: activities run, timers are due when they were, children start. Outcomes
//! for the old execution no longer reach the instance, since they name its number. A child cannot be given another parent, so
//! the children of the old execution are closed by their policies.

use std::collections::{BTreeMap, HashSet};

use semver::Version;

use super::{Causes, NoClaims, TurnBuilder, TurnInfo};
use crate::clock::Timestamp;
use crate::history::{ActivityScheduled, ChildScheduled, Decision, EventKind, HistoryEvent, Input, Started};
use crate::id::{CallId, EventId, ExecutionId, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::provider::{EventRow, MessageRow, NewActivity, NewChild, Outgoing, StoredMessage};
pub(crate) use crate::replay::{Cut, NotACut, legal_cuts, open_children};

/// The history that is cut, and the places of the two executions.
pub(crate) struct GraftSource<'a> {
    /// The execution of the history.
    pub(crate) old: &'a ExecutionId,
    pub(crate) history: &'a [HistoryEvent],
    /// The execution that begins with the kept part.
    pub(crate) new: &'a ExecutionId,
    /// The messages of the instance.
    pub(crate) queue: &'a [StoredMessage],
    /// True if the open calls of the kept part get the outcomes that the dropped part has recorded, instead of being made
    /// again.
    pub(crate) keep_outcomes: bool,
    /// True if the new execution replaces the old one, which has not ended.
    pub(crate) closes: bool,
    pub(crate) now: Timestamp,
}

impl GraftSource<'_> {
    /// Returns true if the new execution is that of another instance.
    fn is_copy(&self) -> bool {
        self.new.instance != self.old.instance
    }
}

/// The rows of the new execution.
#[derive(Default)]
pub(crate) struct GraftRows {
    pub(crate) history: Vec<EventRow>,
    pub(crate) activities: Vec<NewActivity>,
    /// Messages of the old execution's instance that are replaced by `messages`.
    pub(crate) consumed: Vec<MessageId>,
    pub(crate) messages: Vec<MessageRow>,
    pub(crate) starts: Vec<NewChild>,
    pub(crate) outgoing: Vec<Outgoing>,
    /// Open calls that are not made again, since their outcomes are among `messages`.
    pub(crate) resolved: Vec<CallId>,
}

/// A child with an id of its own that is open at the cut: it belongs to the old execution, and its id is taken.
#[derive(Debug)]
pub(crate) struct OpenNamedChild {
    pub(crate) instance: InstanceId,
    pub(crate) scheduled: EventId,
}

/// Builds the rows. `rows` are the stored rows of the kept events.
pub(crate) fn graft(source: &GraftSource<'_>, cut: &Cut<'_>, rows: Vec<EventRow>) -> Result<GraftRows, OpenNamedChild> {
    let begun = source.history.iter().find_map(|event| match &event.kind {
        EventKind::Input(Input::Started(started)) => Some((started, &event.payload)),
        _ => None,
    });
    let mut built = GraftRows::default();
    let Some((started, input)) = begun else { return Ok(built) };
    let outcomes = outcomes(source, cut);
    let version = Version::new(0, 0, 0);
    let info = turn_info(source.new, &version, started, source.now);
    let mut claims = NoClaims;
    let mut builder = TurnBuilder::new(&info, &mut claims);
    for (call, event) in &cut.open {
        let EventKind::Decision(decision) = &event.kind else { continue };
        // A timer fires at its due time again: a kept firing could be recorded earlier, by a clock that is behind.
        let keeps = source.keep_outcomes && !matches!(decision, Decision::TimerCreated { .. });
        if outcomes.contains_key(call) && (keeps || has_own_instance(decision)) {
            built.resolved.push(*call);
            continue;
        }
        match decision {
            Decision::ActivityScheduled(activity) => {
                let activity = Box::new(with_full_limit(activity, event.time, source.now));
                builder.schedule_activity(event.id, event.time, activity, event.payload.clone());
            }
            Decision::TimerCreated { call, due } => builder.create_timer(*call, *due),
            Decision::ChildScheduled(child) => match named(child).filter(|_| !child.detached) {
                Some(id) => return Err(OpenNamedChild { instance: id.clone(), scheduled: event.id }),
                None => builder.schedule_child(unnamed(child), event.payload.clone()),
            },
            // A wait opens again when the kept part is replayed; the others leave no call open.
            Decision::EventAwaited { .. }
            | Decision::CallRejected { .. }
            | Decision::CallDropped { .. }
            | Decision::Completed
            | Decision::Failed { .. }
            | Decision::Cancelled { .. }
            | Decision::Terminated { .. }
            | Decision::ContinuedAsNew { .. } => {}
        }
    }
    let resolved: HashSet<_> = built.resolved.iter().copied().collect();
    built.history =
        rows.into_iter().zip(cut.kept).map(|(row, event)| copied(row, event, source, cut, &resolved)).collect();
    if cut.kept.is_empty() {
        built.messages.push(MessageRow::from(&restart(source.new, source.is_copy(), started, input)));
    }
    carry(source, cut, &resolved, outcomes, &mut built);
    built.messages.extend(builder.turn.messages.into_iter().map(|out| out.message));
    (built.activities, built.starts) = (builder.turn.activities, builder.turn.starts);
    if source.closes {
        built.outgoing = closings(source, started, &resolved);
    }
    Ok(built)
}

fn turn_info<'a>(
    execution: &'a ExecutionId,
    version: &'a Version,
    started: &'a Started,
    now: Timestamp,
) -> TurnInfo<'a> {
    TurnInfo { execution, version, committed: EventId(0), started, now, causes: Causes::Kinds }
}

/// Returns the known outcomes of the open calls, as messages: of the dropped part, or unread ones. A call whose outcome
/// arrived twice has the first one.
fn outcomes(source: &GraftSource<'_>, cut: &Cut<'_>) -> BTreeMap<CallId, Message> {
    let mut outcomes = BTreeMap::new();
    for (call, event) in cut.dropped_outcomes() {
        if let EventKind::Input(input) = &event.kind {
            outcomes.entry(call).or_insert_with(|| Message::new(input.clone(), event.payload.clone()));
        }
    }
    let of_old = |row: &&MessageRow| row.execution == Some(source.old.number) && row.visible_at.is_none();
    for row in source.queue.iter().map(|stored| &stored.row).filter(of_old) {
        let Some(call) = row.call.filter(|call| cut.open.contains_key(call)) else { continue };
        if let Ok(Message { input, payload, .. }) = Message::try_from(row.clone()) {
            outcomes.entry(call).or_insert_with(|| Message::new(input, payload));
        }
    }
    outcomes
}

/// Returns true for the start of an instance that outlives the old execution: it would be started a second time, or its id
/// is taken.
fn has_own_instance(decision: &Decision) -> bool {
    let Decision::ChildScheduled(child) = decision else { return false };
    child.detached || named(child).is_some()
}

/// Returns the id that the code has chosen for a child.
fn named(child: &ChildScheduled) -> Option<&InstanceId> {
    child.instance.as_ref().filter(|id| !id.is_derived_for(child.call))
}

/// Returns an activity with the whole of its limit from now on. Limits are not compared on replay.
fn with_full_limit(activity: &ActivityScheduled, scheduled: Timestamp, now: Timestamp) -> ActivityScheduled {
    let mut activity = activity.clone();
    let limit = &mut activity.options.schedule_to_close;
    *limit = limit.map(|limit| limit.saturating_add(now.since(scheduled)));
    activity
}

/// Returns a child whose id is derived again.
fn unnamed(child: &ChildScheduled) -> ChildScheduled {
    let derived = child.instance.as_ref().is_some_and(|id| id.is_derived_for(child.call));
    ChildScheduled { instance: child.instance.clone().filter(|_| !derived), ..child.clone() }
}

/// Returns the row of a kept event in the new history.
fn copied(
    row: EventRow,
    event: &HistoryEvent,
    source: &GraftSource<'_>,
    cut: &Cut<'_>,
    resolved: &HashSet<CallId>,
) -> EventRow {
    let is_open = |call: &CallId| cut.open.contains_key(call) && !resolved.contains(call);
    let kind = match &event.kind {
        EventKind::Decision(Decision::ActivityScheduled(activity))
            if is_open(&activity.call) && activity.options.schedule_to_close.is_some() =>
        {
            let activity = with_full_limit(activity, event.time, source.now);
            EventKind::Decision(Decision::ActivityScheduled(Box::new(activity)))
        }
        EventKind::Decision(Decision::ChildScheduled(child)) if is_open(&child.call) && child.instance.is_some() => {
            EventKind::Decision(Decision::ChildScheduled(Box::new(unnamed(child))))
        }
        // A child that has ended keeps its id, which the code may have read.
        EventKind::Decision(Decision::ChildScheduled(child)) if !is_open(&child.call) && child.instance.is_none() => {
            let instance = Some(child.instance_in(source.old));
            let child = ChildScheduled { instance, ..ChildScheduled::clone(child) };
            EventKind::Decision(Decision::ChildScheduled(Box::new(child)))
        }
        // The parent waits for the outcome of the old instance.
        EventKind::Input(Input::Started(started)) if started.parent.is_some() && source.is_copy() => {
            EventKind::Input(Input::Started(Box::new(Started { parent: None, ..Started::clone(started) })))
        }
        // An execution without a parent accepts requests of clients only.
        EventKind::Input(Input::CancelRequested { reason, parent: Some(_), by }) if source.is_copy() => {
            EventKind::Input(Input::CancelRequested { reason: reason.clone(), parent: None, by: by.clone() })
        }
        _ => return row,
    };
    EventRow::from(&HistoryEvent { kind, ..event.clone() })
}

/// Returns the message that starts an execution from its input.
fn restart(execution: &ExecutionId, is_copy: bool, started: &Started, input: &Payload) -> Message {
    let mut started = Started { version: None, request: None, seed: crate::random::bits(), ..started.clone() };
    if is_copy {
        started.parent = None;
    }
    Message::new(Input::Started(Box::new(started)), input.clone()).in_lane(Lane::Start).for_execution(execution.number)
}

/// Adds the messages that the new execution receives at once: kept outcomes, and external events.
fn carry(
    source: &GraftSource<'_>,
    cut: &Cut<'_>,
    resolved: &HashSet<CallId>,
    mut outcomes: BTreeMap<CallId, Message>,
    built: &mut GraftRows,
) {
    let number = source.new.number;
    outcomes.retain(|call, _| resolved.contains(call));
    let last_kept = cut.kept.last().map_or(EventId(0), |event| event.id);
    for event in cut.removals().filter(|event| *event <= last_kept) {
        let removal = Message::new(Input::EventDropped { event }, Payload::NULL).for_execution(number);
        built.messages.push(MessageRow::from(&removal));
    }
    let removed: HashSet<EventId> = cut.removals().collect();
    let mut has_events = false;
    for event in cut.dropped {
        let EventKind::Input(input) = &event.kind else { continue };
        if let Some(outcome) = input.call().and_then(|call| outcomes.remove(&call)) {
            built.messages.push(MessageRow::from(&outcome.in_lane(Lane::Carried).for_execution(number)));
        } else if matches!(input, Input::EventRaised { .. }) && !removed.contains(&event.id) {
            has_events = true;
            let message = Message::new(input.clone(), event.payload.clone()).in_lane(Lane::Carried);
            built.messages.push(MessageRow::from(&message));
        }
    }
    built.messages.extend(outcomes.into_values().map(|outcome| MessageRow::from(&outcome.for_execution(number))));
    let is_copy = source.is_copy();
    for StoredMessage { row, .. } in source.queue.iter().filter(|stored| stored.row.execution.is_none()) {
        let again = MessageRow { id: MessageId::new(), number: None, ..row.clone() };
        if is_copy && Input::is_event(&row.data) {
            built.messages.push(again);
        } else if !is_copy && has_events && row.lane == Lane::Carried {
            // It arrived later than the recorded events of its name, which it must not overtake.
            built.consumed.push(row.id);
            built.messages.push(again);
        }
    }
}

/// Returns the messages that close the open children of the old execution.
fn closings(source: &GraftSource<'_>, started: &Started, resolved: &HashSet<CallId>) -> Vec<Outgoing> {
    let version = Version::new(0, 0, 0);
    let info = turn_info(source.old, &version, started, source.now);
    let mut claims = NoClaims;
    let mut builder = TurnBuilder::new(&info, &mut claims);
    for (call, op) in open_children(source.old, source.history) {
        if !resolved.contains(&call) {
            builder.close_open_call(call, op);
        }
    }
    builder.turn.messages
}
