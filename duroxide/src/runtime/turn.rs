//! One turn of one instance: brings its live copy up to date, delivers what came in, and collects what it decides.

use std::sync::{Arc, OnceLock};

use semver::Version;
use tokio::sync::oneshot;

use super::slot::{Delivery, LocalOutcome};
use crate::clock::Timestamp;
use crate::error::ErrorCode;
use crate::history::{Event, Input};
use crate::id::{CallId, ExecutionId, InstanceId, MessageId};
use crate::message::{Lane, Message};
use crate::policy::Limits;
use crate::provider::{EventRow, MessageRow};
use crate::replay::{Core, Execution, Fault, Remains, Replay, Step};

/// A turn to be made.
pub(super) struct TurnJob {
    pub(super) execution: ExecutionId,
    pub(super) generation: u64,
    pub(super) name: String,
    /// The version that the execution is, or will be, pinned to.
    pub(super) version: Version,
    pub(super) copy: Copy,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
}

/// What the turn starts from.
pub(super) enum Copy {
    /// A live copy, or a new one of an execution without history.
    Live(Box<Execution>),
    /// One that the rest of its history brings up to date.
    Stored(Loaded),
}

/// A history that has been read: replayed, up to its last part.
pub(super) struct Loaded {
    pub(super) replay: Replay,
    pub(super) rest: Vec<EventRow>,
}

impl Loaded {
    /// Replays the part that was read last.
    pub(super) fn replay_rest(&mut self) -> Result<(), Fault> {
        let mut events = Vec::with_capacity(self.rest.len());
        for row in self.rest.drain(..) {
            let event = Event::try_from(row).map_err(|e| Fault::new(ErrorCode::UnreadableEvent, e.to_string()))?;
            events.push(event);
        }
        crate::telemetry::silenced(|| self.replay.push_page(events))
    }
}

/// A turn that was made.
pub(super) struct TurnDone {
    pub(super) execution: ExecutionId,
    pub(super) generation: u64,
    pub(super) version: Version,
    /// What it decided and the live copy; or why the instance cannot go on.
    pub(super) result: Result<(Box<Execution>, Output), Fault>,
    /// Outcomes that were delivered, and are stored nowhere until the turn is committed.
    pub(super) taken: Vec<Delivery>,
    /// What was not delivered.
    pub(super) left: Vec<Delivery>,
    pub(super) now: Timestamp,
}

/// What a turn decided.
#[derive(Default)]
pub(super) struct Output {
    pub(super) steps: Vec<Step>,
    /// Stored messages that were read.
    pub(super) consumed: Vec<MessageId>,
    /// Outcomes that were not stored: call and attempt.
    pub(super) outcomes: Vec<(CallId, u32)>,
    pub(super) ended: bool,
    /// Carried events that it has not read before it ended.
    pub(super) carried: Vec<MessageRow>,
    /// When it ended: what it leaves.
    pub(super) remains: Remains,
}

impl Output {
    /// Whether there is anything to be committed.
    pub(super) fn is_empty(&self) -> bool {
        self.consumed.is_empty() && self.outcomes.is_empty() && self.steps.iter().all(|step| step.events.is_empty())
    }
}

impl Output {
    /// Takes the carried events that an execution which continues as new has not read: they go on again, behind those that
    /// it has read and not taken, which are older. Everything else is left as it is.
    fn keep_carried(&mut self, left: impl Iterator<Item = Delivery>) -> Vec<Delivery> {
        let mut others = Vec::new();
        for delivery in left {
            match delivery {
                Delivery::Message(row) if self.ended && row.lane == Lane::Carried => {
                    self.consumed.push(row.id);
                    self.carried.push(row);
                }
                other => others.push(other),
            }
        }
        others
    }
}

impl TurnJob {
    pub(super) fn instance(&self) -> &InstanceId {
        &self.execution.instance
    }

    /// Makes the turn. `core` is told whose it is, for the watchdog.
    pub(super) fn run(self, core: &OnceLock<Arc<Core>>) -> TurnDone {
        let Self { execution: id, generation, version, copy, deliveries, limits, now, .. } = self;
        let mut deliveries = deliveries.into_iter();
        let mut output = Output::default();
        let mut taken = Vec::new();
        let result = copy.up_to_date(core).and_then(|mut execution| {
            execution.limit(limits);
            for delivery in deliveries.by_ref() {
                deliver(&mut execution, delivery, &version, now, &mut output, &mut taken)?;
                if output.ended {
                    output.remains = execution.close();
                    break;
                }
            }
            Ok(execution)
        });
        let left = output.keep_carried(deliveries);
        let result = result.map(|execution| (execution, output));
        TurnDone { execution: id, generation, version, result, taken, left, now }
    }
}

/// A part of a history that is to be replayed, before the turn that follows it.
pub(super) struct ReplayJob {
    pub(super) name: String,
    pub(super) loaded: Loaded,
    pub(super) replayed: oneshot::Sender<Result<Loaded, Fault>>,
}

impl ReplayJob {
    pub(super) fn instance(&self) -> &InstanceId {
        &self.loaded.replay.execution().id().instance
    }

    /// Replays it. `core` is told whose it is, for the watchdog.
    pub(super) fn run(self, core: &OnceLock<Arc<Core>>) {
        let Self { mut loaded, replayed, .. } = self;
        core.get_or_init(|| loaded.replay.execution().core().clone());
        let result = loaded.replay_rest().map(|()| loaded);
        // Nobody asks any more where the node is gone.
        let _ = replayed.send(result);
    }
}

impl Copy {
    fn up_to_date(self, core: &OnceLock<Arc<Core>>) -> Result<Box<Execution>, Fault> {
        match self {
            Self::Live(execution) => {
                core.get_or_init(|| execution.core().clone());
                Ok(execution)
            }
            Self::Stored(mut loaded) => {
                core.get_or_init(|| loaded.replay.execution().core().clone());
                loaded.replay_rest()?;
                crate::telemetry::silenced(|| loaded.replay.end())
            }
        }
    }
}

fn deliver(
    execution: &mut Execution,
    delivery: Delivery,
    version: &Version,
    now: Timestamp,
    output: &mut Output,
    taken: &mut Vec<Delivery>,
) -> Result<(), Fault> {
    let (mut input, payload, due) = match delivery {
        Delivery::Message(row) => {
            let id = row.id;
            if row.execution.is_some_and(|number| number != execution.id().number) {
                // It is for an execution that has ended: read, and without effect.
                output.consumed.push(id);
                return Ok(());
            }
            let message =
                Message::try_from(row).map_err(|e| Fault::new(ErrorCode::UnreadableMessage, e.to_string()))?;
            output.consumed.push(id);
            (message.input, message.payload, message.visible_at)
        }
        Delivery::Outcome(outcome) => {
            let LocalOutcome { attempt, ref input, ref payload, .. } = outcome;
            output.outcomes.push((outcome.call(), attempt));
            let taken_input = (input.clone(), payload.clone(), None);
            taken.push(Delivery::Outcome(outcome));
            taken_input
        }
    };
    if let Input::Started(started) = &mut input {
        started.version.get_or_insert_with(|| version.clone());
    }
    // A timer is never recorded earlier than it was due, whatever the clocks say.
    let time = due.map_or(now, |due| due.max(now));
    let step = execution.step(input, payload, time)?;
    output.ended = step.ended;
    output.steps.push(step);
    Ok(())
}
