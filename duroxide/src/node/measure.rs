//! The measurements of turns and attempts. They are recorded when the commit that stores the turn or the outcome is
//! answered, so that no commit is counted twice, and none that was not carried out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::effect::TurnOutput;
use crate::history::{Decision, EventKind, Failure, Input};
use crate::id::EventId;
use crate::provider::{InstanceStatus, Then, Turn};
use crate::telemetry::{ActivityMetrics, AttemptOutcome, Counter, OrchestrationMetrics};

/// The measurements of a turn that is being committed.
pub(super) enum TurnMeasure {
    /// A turn that the function has made.
    Made(MadeTurn),
    /// A turn that only suspends the instance, with the counter of suspensions.
    Suspension(Counter),
}

pub(super) struct MadeTurn {
    metrics: Arc<OrchestrationMetrics>,
    /// The start of the execution.
    began: Timestamp,
    /// The time for which the turn has run.
    duration: Duration,
    /// The lateness of its timers.
    lateness: Vec<Duration>,
    /// The number of external events that it has recorded.
    events: u64,
    /// The category of the failure, if the execution has failed.
    failure: Option<&'static str>,
}

impl MadeTurn {
    pub(super) fn new(
        metrics: Arc<OrchestrationMetrics>,
        began: Timestamp,
        duration: Duration,
        lateness: Vec<Duration>,
        output: &TurnOutput,
    ) -> Self {
        let recorded = output.steps.iter().flat_map(|step| &step.events);
        let events = recorded.filter(|event| matches!(event.kind, EventKind::Input(Input::EventRaised { .. }))).count();
        let last = output.steps.last().filter(|_| output.ended).and_then(|step| step.events.last());
        let failure = last.and_then(|event| match &event.kind {
            EventKind::Decision(Decision::Failed { failure }) => Some(category(failure)),
            _ => None,
        });
        Self { metrics, began, duration, lateness, events: events as u64, failure }
    }

    fn record(&self, turn: &Turn) {
        let metrics = &*self.metrics;
        metrics.turns.record(self.duration.as_secs_f64());
        self.lateness.iter().for_each(|late| metrics.timer_lateness.record(late.as_secs_f64()));
        if self.events > 0 {
            metrics.events.increment(self.events);
        }
        if turn.after == EventId(0) && turn.execution.number == 1 {
            metrics.starts.increment(1);
        }
        match &turn.then {
            Then::Finish { status: InstanceStatus::Completed } => metrics.completed.increment(1),
            Then::Finish { status } => metrics.ends(status.as_str()).increment(1),
            Then::ContinueAsNew { .. } => metrics.continues.increment(1),
            Then::Continue | Then::Suspend { .. } => return,
        }
        if let Some(category) = self.failure {
            metrics.failures(category).increment(1);
        }
        let end = turn.events.last().map_or(turn.time, |event| event.time);
        metrics.duration.record(end.since(self.began).as_secs_f64());
        metrics.history.record(turn.last_event().0 as f64);
    }
}

impl TurnMeasure {
    /// Records a turn that was committed.
    pub(super) fn record(&self, turn: &Turn) {
        match self {
            Self::Made(made) => made.record(turn),
            Self::Suspension(suspensions) => suspensions.increment(1),
        }
    }
}

/// The measurements of an attempt whose outcome is being committed.
pub(super) struct AttemptMeasure {
    metrics: Arc<ActivityMetrics>,
    outcome: AttemptOutcome,
    duration: Duration,
}

impl AttemptMeasure {
    pub(super) fn new(metrics: Arc<ActivityMetrics>, failure: Option<&Failure>, duration: Duration) -> Self {
        let outcome = match failure {
            None => AttemptOutcome::Completed,
            Some(Failure::Panicked { .. }) => AttemptOutcome::Panicked,
            Some(Failure::TimedOut { .. }) => AttemptOutcome::TimedOut,
            Some(Failure::Rejected { .. }) => AttemptOutcome::Rejected,
            Some(Failure::Application | Failure::Cancelled { .. } | Failure::Terminated { .. }) => {
                AttemptOutcome::Failed
            }
        };
        Self { metrics, outcome, duration }
    }

    /// Records an attempt whose outcome was stored.
    pub(super) fn record(&self) {
        self.metrics.outcomes(self.outcome).increment(1);
        self.metrics.duration.record(self.duration.as_secs_f64());
    }

    /// Records an attempt after which the activity has returned to the queue.
    pub(super) fn record_retry(&self) {
        self.record();
        self.metrics.retries.increment(1);
    }
}

impl fmt::Debug for AttemptMeasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptMeasure").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// Returns the category of a failure of an orchestration.
fn category(failure: &Failure) -> &'static str {
    match failure {
        Failure::Application => "application",
        Failure::Panicked { .. } => "panic",
        Failure::Rejected { .. } => "rejected",
        Failure::TimedOut { .. } => "timed_out",
        Failure::Cancelled { .. } => "cancelled",
        Failure::Terminated { .. } => "terminated",
    }
}
