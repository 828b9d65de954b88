//! The result of a run.

use std::fmt;
use std::time::Duration;

use super::Answered;

/// A run without findings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The number of instances at the end of the run.
    pub instances: usize,
    /// The number of calls of the storage.
    pub calls: u64,
    /// The number of these calls that had a fault injected.
    pub faults: u64,
    /// The number of crashes of nodes.
    pub crashes: u64,
    /// The facts that the metrics of the run must show.
    pub answered: Answered,
    /// The length of the run, by the virtual clock.
    pub time: Duration,
    /// A line for each event of the run, if [`Simulation::trace`](super::Simulation::trace) is set. Each run of the
    /// seed has the same trace.
    pub trace: Vec<String>,
}

/// A run with findings: a guarantee was violated, or the scenario failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The seed. Each run of it fails in the same way.
    pub seed: u64,
    /// The findings.
    pub findings: Vec<String>,
    /// As in [`Report::trace`].
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: the run has findings", self.seed)?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n- {finding}"))
    }
}

impl std::error::Error for Failure {}
