//! Runs that were cancelled or timed out, and whose code has not stopped: it ignores its cancellation, computes without an
//! await, or blocks its thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Kind;
use crate::hash::HashMap;
use crate::id::ActivityId;

/// The runs that have not stopped, by their number. Each keeps its permit.
#[derive(Default)]
pub(super) struct Stopping(HashMap<u64, StoppingRun>);

/// A run that has not stopped.
pub(in crate::node) struct StoppingRun {
    pub(super) kind: Kind,
    pub(in crate::node) id: ActivityId,
    /// The name of the activity.
    pub(in crate::node) name: Arc<str>,
    cause: StopCause,
    pub(in crate::node) since: Instant,
    /// True if it was reported.
    pub(in crate::node) reported: bool,
}

/// The reason why a run is to stop.
#[derive(Debug, Clone, Copy)]
pub(super) enum StopCause {
    Cancelled,
    TimedOut,
}

impl StoppingRun {
    /// Returns the reason why it is to stop.
    pub(in crate::node) fn cause(&self) -> &'static str {
        match self.cause {
            StopCause::Cancelled => "it was cancelled",
            StopCause::TimedOut => "its time limit has passed",
        }
    }
}

impl Stopping {
    pub(super) fn insert(&mut self, run: u64, kind: Kind, id: ActivityId, name: Arc<str>, cause: StopCause) {
        self.0.insert(run, StoppingRun { kind, id, name, cause, since: Instant::now(), reported: false });
    }

    pub(super) fn contains(&self, run: u64) -> bool {
        self.0.contains_key(&run)
    }

    /// Removes a run that has stopped.
    pub(super) fn remove(&mut self, run: u64) -> Option<StoppingRun> {
        self.0.remove(&run)
    }

    /// Calls `report` for each run that has not stopped for this time and was not reported, in a fixed order.
    pub(super) fn report(&mut self, after: Duration, mut report: impl FnMut(&StoppingRun)) {
        let mut due: Vec<_> =
            self.0.iter_mut().filter(|(_, run)| !run.reported && run.since.elapsed() >= after).collect();
        due.sort_unstable_by_key(|(run, _)| **run);
        for (_, run) in due {
            run.reported = true;
            report(run);
        }
    }

    /// Returns when the next run is to be reported.
    pub(super) fn next_report(&self, after: Duration) -> Option<Instant> {
        let unreported = self.0.values().filter(|run| !run.reported);
        unreported.filter_map(|run| run.since.checked_add(after)).min()
    }
}
