//! The table of metrics.

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only grows, and begins at zero with the process.
    Counter,
    /// A number that grows and shrinks.
    Gauge,
    /// The distribution of values.
    Histogram,
}

impl MetricKind {
    /// Returns its name, as in the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Returns its name, as in the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
        }
    }
}

/// A metric of the library.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, in the form of Prometheus.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its description: when it counts.
    pub help: &'static str,
    /// For a histogram: upper bounds of buckets that suit it. An exporter does not derive them; see
    /// `docs/observability-guide.md`.
    pub buckets: &'static [f64],
}

const FAST: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const SLOW: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0];

macro_rules! metrics {
    ($($constant:ident $name:literal $kind:ident $unit:ident [$($label:literal)*] $buckets:tt $help:literal;)*) => {
        /// The names of the metrics.
        pub mod names {
            $(#[doc = $help] pub const $constant: &str = $name;)*
        }

        /// All metrics of the library, by subject.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
            buckets: $buckets,
        }),*];
    };
}

metrics! {
    ORCHESTRATION_STARTS "duroxide_orchestration_starts_total" Counter Count ["name" "version"] (&[])
        "Instances whose first turn was committed.";
    ORCHESTRATION_ENDS "duroxide_orchestration_ends_total" Counter Count ["name" "version" "outcome"] (&[])
        "Instances that have ended: completed, failed, cancelled or terminated. Counted when the commit of the end is answered.";
    ORCHESTRATION_FAILURES "duroxide_orchestration_failures_total" Counter Count ["name" "version" "category"] (&[])
        "Instances that have failed, by the reason: application (the function returned an error), panic, or rejected (the output cannot be stored).";
    ORCHESTRATION_CONTINUES "duroxide_orchestration_continues_total" Counter Count ["name" "version"] (&[])
        "Executions that have continued as new. The instance neither ends nor starts.";
    ORCHESTRATION_SUSPENSIONS "duroxide_orchestration_suspensions_total" Counter Count ["name" "code"] (&[])
        "Turns that have rejected an instance, which is suspended or left to nodes of another build, by error code.";
    ORCHESTRATION_DURATION "duroxide_orchestration_duration_seconds" Histogram Seconds ["name"] SLOW
        "Time from the start of an execution to its end, by the clock of the nodes. An execution that continues as new has ended.";
    ORCHESTRATION_HISTORY "duroxide_orchestration_history_events" Histogram Count ["name"] SIZES
        "Number of events in the history of an execution at its end.";
    ORCHESTRATION_TAKEOVERS "duroxide_orchestration_takeovers_total" Counter Count ["name"] (&[])
        "Instances with a history that a node has claimed: after a restart, a crash of their node, or a release.";
    TURN_DURATION "duroxide_turn_duration_seconds" Histogram Seconds ["name"] FAST
        "Time that a turn has run, including the replay of the last page of a history. Counted when the turn is committed.";
    EVENTS "duroxide_events_received_total" Counter Count ["name"] (&[])
        "External events that were recorded in histories, by orchestration.";
    TIMER_LATENESS "duroxide_timer_lateness_seconds" Histogram Seconds [] FAST
        "Time from the due time of a timer to the turn that has received it.";
    ACTIVITY_ATTEMPTS "duroxide_activity_attempts_total" Counter Count ["name"] (&[])
        "Attempts of activities that a node has begun.";
    ACTIVITY_OUTCOMES "duroxide_activity_outcomes_total" Counter Count ["name" "outcome"] (&[])
        "Ended attempts, by outcome: completed, failed, panicked, timed_out or rejected. Counted when the commit that records the outcome or the retry is answered.";
    ACTIVITY_RETRIES "duroxide_activity_retries_total" Counter Count ["name"] (&[])
        "Failed attempts after which the activity has returned to the queue. Counted when the commit is answered.";
    ACTIVITY_DURATION "duroxide_activity_duration_seconds" Histogram Seconds ["name"] SLOW
        "Time from the beginning of an attempt to its end, of the attempts that are counted in the outcomes.";
    ACTIVITY_QUEUE "duroxide_activity_queue_seconds" Histogram Seconds ["name"] SLOW
        "Time from the event that schedules an activity to the beginning of its first attempt.";
    ACTIVITY_PARKED "duroxide_activity_parked_total" Counter Count ["code"] (&[])
        "Activities that a node has parked or left to nodes of another build, by error code.";
    REQUESTS "duroxide_client_requests_total" Counter Count ["operation" "outcome"] (&[])
        "Requests of clients that have ended: start, raise, cancel, terminate, suspend, wake, resume, drop_message, delete, erase, reset, fork, import. The outcome is ok or an error code.";
    LIVE "duroxide_node_live_instances" Gauge Count ["node"] (&[])
        "Live copies of instances in the memory of a node.";
    EVICTIONS "duroxide_node_evictions_total" Counter Count ["node"] (&[])
        "Live copies that a node has dropped because there were too many.";
    RUNNING "duroxide_node_running_activities" Gauge Count ["node"] (&[])
        "Activities that a node runs.";
    COMMIT_SIZE "duroxide_node_commit_batch_size" Histogram Count ["node"] SIZES
        "Commits that a node has sent in one request.";
    COMMIT_DURATION "duroxide_node_commit_duration_seconds" Histogram Seconds ["node"] FAST
        "Time from the first sending of a batch of commits to its answer, with all retries.";
    LOST_LEASES "duroxide_node_lost_leases_total" Counter Count ["node"] (&[])
        "Leases that a node has lost.";
    STUCK_TURNS "duroxide_node_stuck_turns_total" Counter Count ["node"] (&[])
        "Turns that did not return within the time of `RuntimeOptions::turn_warning`.";
    PROVIDER_DURATION "duroxide_provider_operation_duration_seconds" Histogram Seconds ["operation"] FAST
        "Time of a call of the storage, by the method of `Provider` or `Admin`.";
    PROVIDER_ERRORS "duroxide_provider_errors_total" Counter Count ["operation" "retryable"] (&[])
        "Calls of the storage that have failed as a whole, and entries of commits and submissions that have failed for a reason of the storage.";
    ACTIVE "duroxide_active_orchestrations" Gauge Count ["name" "version" "state"] (&[])
        "Instances in the store that have not finished, by state: running, suspended or paused (suspended by a client). Read from the store.";
    ACTIVE_AGE "duroxide_active_orchestration_age_seconds" Gauge Seconds ["name" "version" "state"] (&[])
        "Time since the creation of the oldest of these instances. Read from the store.";
    QUEUE "duroxide_queue_activities" Gauge Count ["name" "tag" "state"] (&[])
        "Activities in the store that have not ended, by state: waiting, running, retrying or parked. Read from the store.";
    QUEUE_AGE "duroxide_queue_age_seconds" Gauge Seconds ["name" "tag" "state"] (&[])
        "Time for which the oldest of these activities has waited for a node since it was due; 0 if none is due. Read from the store.";
    RUNNABLE_AGE "duroxide_oldest_runnable_seconds" Gauge Seconds [] (&[])
        "Time for which the oldest item has waited for a node since it was due: an activity, or an instance without an owner. Read from the store.";
    UNCLAIMED "duroxide_unclaimed" Gauge Count ["name"] (&[])
        "Waiting items that no live node has the code for, or the tag, and of which one is due: activities, and instances without an owner. Read from the store.";
    CAUSED "duroxide_instances_with_cause" Gauge Count [] (&[])
        "Instances that have not finished and are suspended, or have an activity whose last attempt has failed; without those that are paused. Read from the store.";
    LARGEST_CAUSE "duroxide_largest_cause_instances" Gauge Count [] (&[])
        "The number of those that have one cause, for the most frequent cause. Read from the store.";
    NODES "duroxide_nodes" Gauge Count [] (&[])
        "Members of the store. Read from the store.";
    REPORT_COMPLETE "duroxide_store_report_complete" Gauge Count [] (&[])
        "1 if the values that are read from the store are complete, 0 if the time limit was reached first.";
}

/// Describes all metrics to the recorder: their units and their help texts. Call it once, after the recorder is
/// installed.
#[cfg(feature = "metrics")]
pub fn describe() {
    for metric in METRICS {
        let unit = match metric.unit {
            Unit::Count => metrics::Unit::Count,
            Unit::Seconds => metrics::Unit::Seconds,
        };
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.help),
        }
    }
}
