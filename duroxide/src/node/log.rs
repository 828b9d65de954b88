//! The log lines about instances and activities.
//!
//! At the level `info` they show each start, failed attempt, time-out, suspension, claim and end. A line holds no payload,
//! which may be secret or large. The texts of user errors are logged at `debug`.

use std::io::Write;

use semver::Version;

use super::activities::StoppingRun;
use crate::clock::Timestamp;
use crate::effect::TurnOutput;
use crate::error::{ErrorCode, Suspension};
use crate::history::{Decision, EventKind, Failure, Input, Started};
use crate::id::{CallId, EventId, InstanceId};
use crate::provider::{AcquiredActivity, AcquiredInstance, Tenure, Then, Turn};

/// The facts of a turn that are logged once it is committed.
pub(super) struct TurnFacts {
    orchestration: String,
    version: Version,
    timeouts: Vec<(CallId, Failure)>,
    /// The message, if the orchestration has panicked.
    panic: Option<String>,
}

impl TurnFacts {
    /// Returns the facts to be logged. `None` if there is nothing to log: no limit has passed, there was no panic, and the
    /// turn neither begins nor ends an execution, or lines about it are not enabled.
    pub(super) fn of(
        committed: EventId,
        started: &Started,
        version: &Version,
        output: &TurnOutput,
    ) -> Option<Box<Self>> {
        let timeouts: Vec<_> = timeouts(output).collect();
        let begins_or_ends = committed == EventId(0) || output.ended;
        let panic = panic(output);
        // Not `tracing::enabled!`, by which a subscriber with filters for each layer can lose the next line.
        let logs_info = tracing::level_filters::LevelFilter::current() >= tracing::Level::INFO;
        if !(begins_or_ends && logs_info) && timeouts.is_empty() && panic.is_none() {
            return None;
        }
        let (orchestration, version) = (started.name.clone(), version.clone());
        Some(Box::new(Self { orchestration, version, timeouts, panic }))
    }

    /// Logs the facts of a turn that was committed.
    pub(super) fn log(&self, turn: &Turn) {
        let Self { orchestration, version, timeouts, panic } = self;
        let (instance, execution) = (&turn.execution.instance, turn.execution.number);
        if turn.after == EventId(0) {
            tracing::info!(%instance, execution, orchestration, %version, "orchestration started");
        }
        for (call, failure) in timeouts {
            tracing::warn!(%instance, %call, reason = kind_of(failure), "an activity has timed out");
        }
        if let Some(message) = panic {
            tracing::warn!(%instance, execution, orchestration, %version, "the orchestration has panicked");
            tracing::debug!(%instance, execution, orchestration, %version, message, "the panic of an orchestration");
        }
        match &turn.then {
            Then::Finish { status } => {
                tracing::info!(%instance, execution, orchestration, %version, %status, "orchestration ended");
            }
            Then::ContinueAsNew { .. } => {
                tracing::info!(%instance, execution, orchestration, %version, "orchestration continues as new");
            }
            Then::Continue | Then::Suspend { .. } => {}
        }
    }
}

/// Returns the activities of a turn whose limit has passed.
fn timeouts(output: &TurnOutput) -> impl Iterator<Item = (CallId, Failure)> {
    output.steps.iter().filter_map(|step| match &step.input()?.kind {
        EventKind::Input(Input::ActivityFailed { call, failure: failure @ Failure::TimedOut { .. }, .. }) => {
            Some((*call, failure.clone()))
        }
        _ => None,
    })
}

/// Returns the message of the panic by which a turn ends its execution.
fn panic(output: &TurnOutput) -> Option<String> {
    let last = output.steps.last().filter(|_| output.ended)?.events.last()?;
    match &last.kind {
        EventKind::Decision(Decision::Failed { failure: Failure::Panicked { message } }) => Some(message.clone()),
        _ => None,
    }
}

/// Returns the kind of a failure, without texts of user code.
fn kind_of(failure: &Failure) -> String {
    match failure {
        Failure::Application => "it returned an error".to_owned(),
        Failure::Panicked { .. } => "it panicked".to_owned(),
        Failure::TimedOut { limit, .. } => limit.to_string(),
        Failure::Cancelled { .. } => "it was cancelled".to_owned(),
        Failure::Terminated { .. } => "it was terminated".to_owned(),
        Failure::Rejected { reason } => reason.clone(),
    }
}

/// Logs that an attempt of an activity has failed, with the time of the next one, if there is one.
pub(super) fn attempt_failed(tenure: &Tenure, activity: &str, failure: &Failure, next: Option<Timestamp>) {
    let (instance, call, attempt) = (&tenure.activity.execution.instance, tenure.activity.call, tenure.attempt);
    let reason = kind_of(failure);
    match next {
        Some(next) => tracing::warn!(
            %instance, %call, activity, attempt, reason, next_attempt = %next,
            "an attempt of an activity has failed, and will be repeated"
        ),
        None => {
            tracing::warn!(%instance, %call, activity, attempt, reason, "the last attempt of an activity has failed")
        }
    }
    if let Failure::Panicked { message } = failure {
        tracing::debug!(%instance, %call, activity, attempt, message, "the panic of an activity");
    }
}

/// Logs that the code of an activity has not stopped after its limit or its cancellation.
pub(super) fn activity_does_not_stop(run: &StoppingRun) {
    let (instance, call, seconds) = (&run.id.execution.instance, run.id.call, run.since.elapsed().as_secs_f64());
    tracing::error!(
        %instance, %call, activity = &*run.name, reason = run.cause(), seconds, code = %ErrorCode::ActivityStuck,
        "an activity does not stop: it ignores its cancellation, computes without an await, or blocks its thread; \
         it keeps its permit, and its thread if it blocks it",
    );
}

/// Logs that an activity has stopped, if it was reported before.
pub(super) fn activity_stopped(run: &StoppingRun) {
    if run.reported {
        let (instance, call, seconds) = (&run.id.execution.instance, run.id.call, run.since.elapsed().as_secs_f64());
        tracing::warn!(%instance, %call, activity = &*run.name, seconds, "an activity that did not stop has ended");
    }
}

/// Logs that this node takes over an instance that has run before, here or on another node.
pub(super) fn claimed(acquired: &AcquiredInstance) {
    let AcquiredInstance { execution, name, last_event, crashes, .. } = acquired;
    if *last_event > EventId(0) {
        let (instance, execution) = (&execution.instance, execution.number);
        tracing::info!(
            %instance, execution, orchestration = name, events = last_event.0, crashes,
            "instance taken over: it continues on this node, from its history"
        );
    }
}

/// Logs that an activity runs again, because the node that ran it has died.
pub(super) fn claimed_activity(acquired: &AcquiredActivity) {
    let AcquiredActivity { id, attempt, crashes, .. } = acquired;
    if *crashes > 0 {
        let (instance, call) = (&id.execution.instance, id.call);
        tracing::warn!(%instance, %call, attempt, crashes, "activity taken over: the node that ran it has died");
    }
}

/// Logs a suspension: of an instance, or of one of its activities. Without a subscriber it is written to stderr, since a
/// caller that waits for the result would otherwise wait in silence.
pub(super) fn suspended(instance: &InstanceId, event: &str, suspension: &Suspension) {
    let code = suspension.code;
    tracing::error!(%instance, %code, "{event}: {suspension}");
    if !tracing::dispatcher::has_been_set() {
        // There is no other place to report that stderr is closed.
        let _ = writeln!(std::io::stderr(), "duroxide: instance {instance}: {event}: {suspension}");
    }
}
