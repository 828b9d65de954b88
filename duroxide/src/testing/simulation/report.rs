//! What came of a run.

use std::fmt;
use std::time::Duration;

/// A run in which everything was as promised.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many instances there were.
    pub instances: usize,
    /// How often the storage was called.
    pub calls: u64,
    /// How many of these calls went wrong.
    pub faults: u64,
    /// How often a node died.
    pub crashes: u64,
    /// How much time has passed, by the virtual clock.
    pub time: Duration,
    /// What happened, a line each, if it was asked for: the same each time the seed is run.
    pub trace: Vec<String>,
}

/// Something was not as promised, or the scenario failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The seed that leads to it, each time.
    pub seed: u64,
    /// What was found.
    pub findings: Vec<String>,
    /// What happened, a line each, if it was asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: not as promised", self.seed)?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n- {finding}"))
    }
}

impl std::error::Error for Failure {}
