//! What can be set about a runtime.

use std::time::Duration;

use crate::policy::Limits;

/// What can be set about a runtime. All have defaults that suit a program of its own on one machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RuntimeOptions {
    /// How many async activities run at once. Default: 256.
    pub max_activities: usize,
    /// How many blocking activities run at once, each on a thread. Default: 16.
    pub max_blocking_activities: usize,
    /// How many instances that wait are kept in memory; the others are replayed when something comes in. Default: 4096.
    pub max_idle_instances: usize,
    /// How many threads poll orchestrations. Default: the number of processors, at most 4.
    pub turn_threads: usize,
    /// How long a turn may take before it is reported, and its thread replaced. Default: 1 s.
    pub turn_warning: Duration,
    /// How long a node may be silent before others take over what it owns, where its death cannot be seen otherwise.
    /// Default: 15 s.
    pub lease_time: Duration,
    /// How long a shutdown waits for running activities. Default: 10 s.
    pub drain: Duration,
    /// Sizes beyond which values are refused.
    pub limits: Limits,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            max_activities: 256,
            max_blocking_activities: 16,
            max_idle_instances: 4096,
            turn_threads: processors.min(4),
            turn_warning: Duration::from_secs(1),
            lease_time: Duration::from_secs(15),
            drain: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }
}
