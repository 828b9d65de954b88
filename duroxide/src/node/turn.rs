//! One turn of one instance: brings its live copy up to date, delivers the inputs, and collects the decisions.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use semver::Version;
use tokio::sync::oneshot;
use tracing::Span;

use super::delivery::{Delivery, LocalOutcome};
use super::inbox::Inbox;
use crate::clock::Timestamp;
use crate::effect::TurnOutput;
use crate::error::{ErrorCode, UnreadMessage};
use crate::history::{EndRequest, HistoryEvent, Input};
use crate::id::{EventId, ExecutionId, MessageId, NodeId};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::policy::Limits;
use crate::provider::{EventRow, MessageRow};
use crate::replay::{Core, Execution, Fault, Held, Replay, Unread, UnreadEvent};
use crate::telemetry::spans::TurnFields;
use crate::telemetry::{self, spans};

/// A turn to be run.
pub(super) struct TurnJob {
    pub(super) name: Arc<str>,
    pub(super) source: Source,
    pub(super) limits: Limits,
    pub(super) node: NodeId,
    /// The last event of the stored history.
    pub(super) committed: EventId,
    pub(super) run: Box<TurnRun>,
}

/// The state that the turn starts from.
pub(super) enum Source {
    /// A live copy, or a new one of an execution without history.
    Live(Box<Execution>),
    /// A history whose last part is still to be replayed.
    Loaded(Loaded),
}

/// A history that was read, and replayed except for its last part.
pub(super) struct Loaded {
    pub(super) replay: Replay,
    pub(super) rest: Vec<EventRow>,
}

impl Loaded {
    /// Replays the last part.
    pub(super) fn replay_rest(&mut self) -> Result<(), Fault> {
        let mut events = Vec::with_capacity(self.rest.len());
        for row in self.rest.drain(..) {
            let event =
                HistoryEvent::try_from(row).map_err(|e| Fault::new(ErrorCode::UnreadableEvent, e.to_string()))?;
            events.push(event);
        }
        crate::telemetry::silenced(|| self.replay.push_page(events))
    }
}

/// A turn that has ended.
pub(super) struct TurnDone {
    pub(super) run: Box<TurnRun>,
    /// The live copy, or the fault that stops the instance.
    pub(super) result: Result<Box<Execution>, Fault>,
}

/// The circumstances of a turn, and its decisions. In a box, since several threads pass it on.
pub(super) struct TurnRun {
    pub(super) execution: ExecutionId,
    pub(super) generation: u64,
    /// The version that the execution is, or will be, pinned to.
    pub(super) version: Version,
    /// Outcomes that were delivered. They are not stored before the turn is committed.
    pub(super) delivered_outcomes: Vec<Delivery>,
    /// Deliveries that the turn has not reached.
    pub(super) undelivered: Inbox,
    /// Held events: at first those that a new execution takes over from the one before, and at its end those that the next
    /// one takes over.
    pub(super) held: Held,
    pub(super) now: Timestamp,
    /// The time for which the turn has run.
    pub(super) duration: Duration,
    /// The lateness of the timers that were delivered.
    pub(super) lateness: Vec<Duration>,
    /// The decisions.
    pub(super) output: TurnOutput,
    /// A request to end, to be delivered with the start.
    request: Option<(MessageId, EndRequest)>,
    /// The messages of the external events that were recorded.
    events: Vec<(EventId, MessageId)>,
}

impl TurnRun {
    pub(super) fn new(
        execution: ExecutionId,
        generation: u64,
        version: Version,
        deliveries: Inbox,
        held: Held,
        now: Timestamp,
    ) -> Box<Self> {
        Box::new(Self {
            execution,
            generation,
            version,
            delivered_outcomes: Vec::new(),
            undelivered: deliveries,
            held,
            now,
            duration: Duration::ZERO,
            lateness: Vec::new(),
            output: TurnOutput::default(),
            request: None,
            events: Vec::new(),
        })
    }

    /// Returns the span of the turn, which begins after the replay.
    fn span(&self, execution: &Execution, orchestration: &str, node: NodeId) -> Span {
        let ExecutionId { instance, number, .. } = &self.execution;
        let (version, execution_number) = (&self.version, *number);
        let span =
            spans::turn(&TurnFields { instance, execution: execution_number, orchestration, version, node: &node });
        if span.is_disabled() {
            return span;
        }
        match execution.started() {
            Some(started) => telemetry::follow(&span, &started.headers, self.now.since(execution.began())),
            // The first turn delivers the start.
            None => {
                let start = self.undelivered.start().and_then(|delivery| match delivery {
                    Delivery::Message(row) => Message::try_from((**row).clone()).ok(),
                    Delivery::Outcome(_) => None,
                });
                if let Some(Message { input: Input::Started(started), .. }) = start {
                    telemetry::follow(&span, &started.headers, Duration::ZERO);
                }
            }
        }
        span
    }

    /// Delivers an input, and then the held events that a wait is pending for, until the execution has ended.
    fn deliver(&mut self, execution: &mut Execution, delivery: Delivery) -> Result<(), Fault> {
        match delivery {
            Delivery::Message(row) => {
                let id = row.id;
                if row.execution.is_some_and(|number| number != execution.id().number) {
                    // The message is for an execution that has ended: it is consumed without effect.
                    self.output.consumed.push(id);
                    return Ok(());
                }
                let may_be_removed = row.call.is_none() && row.lane != Lane::Start;
                let message = Message::try_from(*row).map_err(|e| {
                    let mut fault = Fault::new(ErrorCode::UnreadableMessage, e.to_string());
                    fault.0.unread = may_be_removed.then_some(UnreadMessage::Queued(id));
                    fault
                })?;
                if let Some(message) = execution.hold(message) {
                    self.deliver_message(execution, message)?;
                }
            }
            Delivery::Outcome(outcome) => {
                let LocalOutcome { attempt, ref input, ref payload, .. } = *outcome;
                self.output.outcomes.push((outcome.call(), attempt));
                let (input, payload) = (input.clone(), payload.clone());
                self.delivered_outcomes.push(Delivery::Outcome(outcome));
                self.step(execution, None, (input, payload), self.now)?;
            }
        }
        while !self.output.ended
            && let Some(message) = execution.take_awaited()
        {
            self.deliver_message(execution, message)?;
        }
        Ok(())
    }

    fn deliver_message(&mut self, execution: &mut Execution, message: Message) -> Result<(), Fault> {
        let Message { id, mut input, payload, visible_at: due, .. } = message;
        self.output.consumed.push(id);
        // A timer is never recorded earlier than it was due, even if a clock was set back.
        let mut time = due.map_or(self.now, |due| due.max(self.now));
        if let Input::Started(started) = &mut input {
            started.version.get_or_insert_with(|| self.version.clone());
            if let Some((id, request)) = self.request.take() {
                self.output.consumed.push(id);
                started.request = Some(request);
                // The start may have been delayed.
                time = self.now;
            }
            self.step(execution, None, (input, payload), time)?;
            if !self.held.is_empty() {
                execution.take_over(std::mem::take(&mut self.held));
            }
            return Ok(());
        }
        let late = due.filter(|_| matches!(input, Input::TimerFired { .. })).map(|due| self.now.since(due));
        self.step(execution, Some(id), (input, payload), time)?;
        let is_stale = self.output.steps.last().is_none_or(|step| step.input().is_none());
        self.lateness.extend(late.filter(|_| !is_stale));
        Ok(())
    }

    /// Delivers an input to the execution, and adds the step to the output.
    fn step(
        &mut self,
        execution: &mut Execution,
        message: Option<MessageId>,
        (input, payload): (Input, Payload),
        time: Timestamp,
    ) -> Result<(), Fault> {
        let event = message.filter(|_| matches!(input, Input::EventRaised { .. }));
        // The event has this id if the step fails.
        self.events.extend(event.map(|message| (execution.last_event().next(), message)));
        let step = execution.step(input, payload, time)?;
        if event.is_some() {
            self.events.pop();
        }
        let messages = step.pulled.iter().copied().chain(event);
        self.events.extend(step.events.iter().map(|event| event.id).zip(messages));
        self.output.consumed.extend(&step.pulled);
        self.output.ended = step.ended;
        self.output.steps.push(step);
        Ok(())
    }

    /// Names an event that this turn has delivered by its message, since the turn is not committed.
    fn name_unread(&self, mut fault: Fault) -> Fault {
        if let Some(UnreadMessage::Recorded(event)) = fault.0.unread
            && let Some((_, message)) = self.events.iter().find(|(delivered, _)| *delivered == event)
        {
            fault.0.unread = Some(UnreadMessage::Queued(*message));
        }
        fault
    }

    /// Returns the deliveries of a turn that is not committed: outcomes among them are to be stored as messages.
    pub(super) fn into_deliveries(self: Box<Self>) -> impl Iterator<Item = Delivery> {
        self.delivered_outcomes.into_iter().chain(self.undelivered.into_outcomes())
    }
}

/// Takes a request to end that is to be delivered together with the start of the execution: one to terminate before one to
/// cancel, and of several the earliest.
fn take_end_request(deliveries: &mut Inbox, execution: u64) -> Option<(MessageId, EndRequest)> {
    let Delivery::Message(start) = deliveries.start()? else { return None };
    let is_for_this = start.execution.is_none_or(|number| number == execution);
    if !is_for_this || !deliveries.others().any(Delivery::may_be_end_request) {
        return None;
    }
    let Ok(Message { input: Input::Started(started), .. }) = Message::try_from((**start).clone()) else { return None };
    let request = |delivery: &Delivery| {
        let Delivery::Message(row) = delivery else { return None };
        if !delivery.may_be_end_request() || row.execution.is_some_and(|number| number != execution) {
            return None;
        }
        let message = Message::try_from((**row).clone()).ok()?;
        let (request, parent) = message.input.end_request(execution == 1)?;
        // The request of a parent is only for its own child.
        let is_valid = parent.is_none() || parent == started.parent.as_ref();
        is_valid.then_some((row.id, request))
    };
    let requests = || deliveries.others().filter_map(request);
    let terminates = |(_, request): &(MessageId, EndRequest)| matches!(request, EndRequest::Terminate { .. });
    let found = requests().find(terminates).or_else(|| requests().next())?;
    deliveries.remove_others(|delivery| matches!(delivery, Delivery::Message(row) if row.id == found.0));
    Some(found)
}

/// Returns the held events that the next execution takes over.
///
/// Unread recorded events can precede or interleave with held ones, so all of them are sent again in order. This is rare
/// while events are held: such an event has been delivered to a wait, which was dropped before it could take the event.
fn carry_over(output: &mut TurnOutput, undelivered: &mut Inbox) -> Held {
    let (held, unread) = (std::mem::take(&mut output.leftovers.held), std::mem::take(&mut output.leftovers.unread));
    if unread.is_empty() {
        return held;
    }
    let mut events = Vec::with_capacity(unread.len());
    for UnreadEvent { arrival, name, event: Unread { payload, headers, by } } in unread {
        let message = Message::new(Input::EventRaised { name, headers, by }, payload);
        events.push((arrival, MessageRow::from(&message)));
    }
    for (arrival, message) in held.into_events() {
        output.consumed.push(message.id);
        events.push((arrival, MessageRow::from(&message)));
    }
    events.sort_unstable_by_key(|(arrival, _)| *arrival);
    output.carried.extend(events.into_iter().map(|(_, row)| row));
    for delivery in undelivered.take_carried() {
        if let Delivery::Message(row) = delivery {
            output.consumed.push(row.id);
            output.carried.push(*row);
        }
    }
    Held::default()
}

impl TurnJob {
    pub(super) fn execution(&self) -> &ExecutionId {
        &self.run.execution
    }

    /// Runs the turn. `core` receives the handle of the execution, for the watchdog.
    pub(super) fn run(self, core: &OnceLock<Arc<Core>>) -> TurnDone {
        let Self { name, source, limits, node, mut run, .. } = self;
        run.request = take_end_request(&mut run.undelivered, run.execution.number);
        let begun = Instant::now();
        let result = source.up_to_date(core).and_then(|mut execution| {
            let _span = run.span(&execution, &name, node).entered();
            execution.limit(limits);
            while !run.output.ended
                && let Some(delivery) = run.undelivered.pop()
            {
                run.deliver(&mut execution, delivery)?;
            }
            if run.output.ended {
                run.output.leftovers = execution.close();
                run.held = carry_over(&mut run.output, &mut run.undelivered);
            } else {
                run.output.waits = execution.waits();
            }
            Ok(execution)
        });
        let result = result.map_err(|fault| run.name_unread(fault));
        run.duration = begun.elapsed();
        TurnDone { run, result }
    }
}

/// A part of a history that is replayed before the turn that follows it.
pub(super) struct ReplayJob {
    pub(super) name: Arc<str>,
    pub(super) loaded: Loaded,
    pub(super) replayed: oneshot::Sender<Result<Loaded, Fault>>,
}

impl ReplayJob {
    pub(super) fn execution(&self) -> &ExecutionId {
        self.loaded.replay.execution().id()
    }

    /// Replays the part. `core` receives the handle of the execution, for the watchdog.
    pub(super) fn run(self, core: &OnceLock<Arc<Core>>) {
        let Self { mut loaded, replayed, .. } = self;
        core.get_or_init(|| loaded.replay.execution().core().clone());
        let result = loaded.replay_rest().map(|()| loaded);
        // The receiver is dropped if the node has ended.
        let _ = replayed.send(result);
    }
}

impl Source {
    fn up_to_date(self, core: &OnceLock<Arc<Core>>) -> Result<Box<Execution>, Fault> {
        match self {
            Self::Live(execution) => {
                core.get_or_init(|| execution.core().clone());
                Ok(execution)
            }
            Self::Loaded(mut loaded) => {
                core.get_or_init(|| loaded.replay.execution().core().clone());
                loaded.replay_rest()?;
                crate::telemetry::silenced(|| loaded.replay.end())
            }
        }
    }
}
