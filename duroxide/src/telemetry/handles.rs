//! The handles of the hot path, made once for each name, since making one costs a look-up in the recorder.

use std::sync::Arc;

use semver::Version;

use super::names::*;
use super::{Counter, Gauge, Histogram, OTHER, counter, gauge, histogram};
use crate::hash::HashMap;

/// The metrics of one version of an orchestration.
pub(crate) struct OrchestrationMetrics {
    pub(crate) starts: Counter,
    pub(crate) completed: Counter,
    pub(crate) continues: Counter,
    pub(crate) events: Counter,
    pub(crate) duration: Histogram,
    pub(crate) history: Histogram,
    pub(crate) turns: Histogram,
    pub(crate) timer_lateness: Histogram,
    name: String,
    version: String,
}

impl OrchestrationMetrics {
    fn new(name: &str, version: &Version) -> Self {
        let version = version.to_string();
        let labels = [("name", name), ("version", &*version)];
        let by_name = [("name", name)];
        Self {
            starts: counter(ORCHESTRATION_STARTS, &labels),
            completed: counter(ORCHESTRATION_ENDS, &[labels[0], labels[1], ("outcome", "completed")]),
            continues: counter(ORCHESTRATION_CONTINUES, &labels),
            events: counter(EVENTS, &by_name),
            duration: histogram(ORCHESTRATION_DURATION, &by_name),
            history: histogram(ORCHESTRATION_HISTORY, &by_name),
            turns: histogram(TURN_DURATION, &by_name),
            timer_lateness: histogram(TIMER_LATENESS, &[]),
            name: name.to_owned(),
            version,
        }
    }

    /// Returns the counter of an end other than `completed`.
    pub(crate) fn ends(&self, outcome: &str) -> Counter {
        counter(ORCHESTRATION_ENDS, &[("name", &self.name), ("version", &self.version), ("outcome", outcome)])
    }

    /// Returns the counter of failures for a reason.
    pub(crate) fn failures(&self, category: &str) -> Counter {
        counter(ORCHESTRATION_FAILURES, &[("name", &self.name), ("version", &self.version), ("category", category)])
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    Completed,
    Failed,
    Panicked,
    TimedOut,
    Rejected,
}

impl AttemptOutcome {
    const ALL: [(Self, &str); 5] = [
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Panicked, "panicked"),
        (Self::TimedOut, "timed_out"),
        (Self::Rejected, "rejected"),
    ];
}

/// The metrics of an activity.
pub(crate) struct ActivityMetrics {
    pub(crate) attempts: Counter,
    pub(crate) retries: Counter,
    pub(crate) duration: Histogram,
    pub(crate) queue: Histogram,
    outcomes: [Counter; AttemptOutcome::ALL.len()],
}

impl ActivityMetrics {
    fn new(name: &str) -> Self {
        let labels = [("name", name)];
        let outcome = |(_, outcome)| counter(ACTIVITY_OUTCOMES, &[labels[0], ("outcome", outcome)]);
        Self {
            attempts: counter(ACTIVITY_ATTEMPTS, &labels),
            retries: counter(ACTIVITY_RETRIES, &labels),
            duration: histogram(ACTIVITY_DURATION, &labels),
            queue: histogram(ACTIVITY_QUEUE, &labels),
            outcomes: AttemptOutcome::ALL.map(outcome),
        }
    }

    pub(crate) fn outcomes(&self, outcome: AttemptOutcome) -> &Counter {
        &self.outcomes[outcome as usize]
    }
}

/// The metrics of a node, and those of the names that it has met. They are bounded, since a node runs only code that it
/// has registered.
pub(crate) struct NodeMetrics {
    live: Gauge,
    running: Gauge,
    pub(crate) evictions: Counter,
    pub(crate) commit_size: Histogram,
    pub(crate) commit_duration: Histogram,
    pub(crate) lost_leases: Counter,
    pub(crate) stuck_turns: Counter,
    orchestrations: HashMap<String, Vec<(Version, Arc<OrchestrationMetrics>)>>,
    activities: HashMap<String, Arc<ActivityMetrics>>,
}

impl NodeMetrics {
    pub(crate) fn new(node: &str) -> Self {
        let labels = [("node", node)];
        Self {
            live: gauge(LIVE, &labels),
            running: gauge(RUNNING, &labels),
            evictions: counter(EVICTIONS, &labels),
            commit_size: histogram(COMMIT_SIZE, &labels),
            commit_duration: histogram(COMMIT_DURATION, &labels),
            lost_leases: counter(LOST_LEASES, &labels),
            stuck_turns: counter(STUCK_TURNS, &labels),
            orchestrations: HashMap::default(),
            activities: HashMap::default(),
        }
    }

    /// Shows the numbers of live copies and of running activities.
    pub(crate) fn show(&self, live: usize, running: usize) {
        self.live.set(live as f64);
        self.running.set(running as f64);
    }

    pub(crate) fn orchestration(&mut self, name: &str, version: &Version) -> Arc<OrchestrationMetrics> {
        let known = self.orchestrations.get(name).and_then(|all| all.iter().find(|(known, _)| known == version));
        if let Some((_, metrics)) = known {
            return metrics.clone();
        }
        let metrics = Arc::new(OrchestrationMetrics::new(name, version));
        self.orchestrations.entry(name.to_owned()).or_default().push((version.clone(), metrics.clone()));
        metrics
    }

    pub(crate) fn activity(&mut self, name: &str) -> Arc<ActivityMetrics> {
        if let Some(metrics) = self.activities.get(name) {
            return metrics.clone();
        }
        let metrics = Arc::new(ActivityMetrics::new(name));
        self.activities.insert(name.to_owned(), metrics.clone());
        metrics
    }
}

impl Drop for NodeMetrics {
    fn drop(&mut self) {
        self.show(0, 0);
    }
}

/// Counts an instance that was terminated without its code. `known` is its name and version, if they are registered here.
pub(crate) fn terminated(known: Option<(&str, Option<&Version>)>) {
    let (name, version) = known.unwrap_or((OTHER, None));
    let version = version.map_or_else(|| OTHER.to_owned(), Version::to_string);
    counter(ORCHESTRATION_ENDS, &[("name", name), ("version", &version), ("outcome", "terminated")]).increment(1);
}
