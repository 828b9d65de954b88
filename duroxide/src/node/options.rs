//! The options of a runtime.

use std::time::Duration;

use crate::policy::Limits;

/// The options of a runtime. The defaults suit a program that has one machine for itself.
///
/// ```
/// use duroxide::runtime::{Limits, RuntimeOptions};
/// let options = RuntimeOptions::new().max_activities(64).limits(Limits::default().payload(10 * 1024 * 1024));
/// assert_eq!(options.max_activities, 64);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RuntimeOptions {
    /// The number of async activities that run at once, or have ended with an outcome that is not on its way to the
    /// storage: after a crash, no more than these are run again. Default: 256.
    pub max_activities: usize,
    /// The number of blocking activities that run at once, each on a thread. Default: 16.
    pub max_blocking_activities: usize,
    /// The number of waiting instances that are kept in memory; the others are replayed when a message arrives.
    /// Default: 4096.
    pub max_idle_instances: usize,
    /// The number of orchestrations that are polled at once, each on a thread. Two more threads drive the node and take
    /// the first step of activities. Default: the number of processors, at most 4.
    pub turn_threads: usize,
    /// The time after which a turn is reported and its thread replaced. A start waits no longer for the first turn of
    /// its instance. Also the time after which an activity is reported that does not stop after its limit or its
    /// cancellation. At least 1 ms. Default: 1 s.
    pub turn_warning: Duration,
    /// The time after which an async activity that blocks the thread that polls it is reported in the log;
    /// `Duration::MAX`: never. Default: 1 s.
    pub activity_warning: Duration,
    /// The time after which other nodes take over the items of a node that does not renew its lease, for example because
    /// its process is stopped. A storage that detects the death of a process does not wait for it. The node renews three
    /// times in this time. At least 1 ms, which only a test can use; below a second, a busy machine may lose its lease.
    /// Default: 15 s.
    pub lease_time: Duration,
    /// The time for which a shutdown waits for running activities. Default: 10 s.
    pub drain: Duration,
    /// The time for which a request of a client of this runtime is retried while the storage fails; see
    /// [`Client::with_retry_time`](crate::Client::with_retry_time). The runtime itself retries without a limit.
    /// Default: 60 s.
    pub retry_time: Duration,
    /// True if the cause of a failure ([`Turn::cause`](crate::provider::Turn::cause)) holds the message of the error, so
    /// that instances are counted by it. Words with digits and quoted text are left out of it, but a message may hold a
    /// secret all the same: with `false`, the cause is only the kind of the failure or the code of the suspension. Default:
    /// true.
    pub cause_messages: bool,
    /// The sizes beyond which values are refused.
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
            activity_warning: Duration::from_secs(1),
            lease_time: Duration::from_secs(15),
            drain: Duration::from_secs(10),
            retry_time: Duration::from_secs(60),
            cause_messages: true,
            limits: Limits::default(),
        }
    }
}

impl RuntimeOptions {
    /// The shortest lease time and turn warning: with a shorter one, the node would only renew its lease, or report and
    /// replace the thread of each turn.
    const MIN_TIME: Duration = Duration::from_millis(1);

    /// Returns the problem of an option that would stop all work of one kind without a sign.
    pub(crate) fn problem(&self) -> Option<String> {
        let counts = [
            ("max_activities", self.max_activities),
            ("max_blocking_activities", self.max_blocking_activities),
            ("turn_threads", self.turn_threads),
            ("limits.payload", self.limits.payload),
            ("limits.history", usize::try_from(self.limits.history).unwrap_or(usize::MAX)),
        ];
        if let Some((option, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Some(format!("`RuntimeOptions::{option}` is 0: it must be at least 1"));
        }
        let shortest = Self::MIN_TIME;
        let times = [("lease_time", self.lease_time), ("turn_warning", self.turn_warning)];
        let (option, time) = times.into_iter().find(|(_, time)| *time < shortest)?;
        Some(format!("`RuntimeOptions::{option}` is {time:?}: it must be at least {shortest:?}"))
    }

    /// Returns the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`max_activities`](Self::max_activities).
    #[must_use]
    pub fn max_activities(mut self, max_activities: usize) -> Self {
        self.max_activities = max_activities;
        self
    }

    /// Sets [`max_blocking_activities`](Self::max_blocking_activities).
    #[must_use]
    pub fn max_blocking_activities(mut self, max_blocking_activities: usize) -> Self {
        self.max_blocking_activities = max_blocking_activities;
        self
    }

    /// Sets [`max_idle_instances`](Self::max_idle_instances).
    #[must_use]
    pub fn max_idle_instances(mut self, max_idle_instances: usize) -> Self {
        self.max_idle_instances = max_idle_instances;
        self
    }

    /// Sets [`turn_threads`](Self::turn_threads).
    #[must_use]
    pub fn turn_threads(mut self, turn_threads: usize) -> Self {
        self.turn_threads = turn_threads;
        self
    }

    /// Sets [`turn_warning`](Self::turn_warning).
    #[must_use]
    pub fn turn_warning(mut self, turn_warning: Duration) -> Self {
        self.turn_warning = turn_warning;
        self
    }

    /// Sets [`activity_warning`](Self::activity_warning).
    #[must_use]
    pub fn activity_warning(mut self, activity_warning: Duration) -> Self {
        self.activity_warning = activity_warning;
        self
    }

    /// Sets [`lease_time`](Self::lease_time).
    #[must_use]
    pub fn lease_time(mut self, lease_time: Duration) -> Self {
        self.lease_time = lease_time;
        self
    }

    /// Sets [`drain`](Self::drain).
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Sets [`retry_time`](Self::retry_time).
    #[must_use]
    pub fn retry_time(mut self, retry_time: Duration) -> Self {
        self.retry_time = retry_time;
        self
    }

    /// Sets [`cause_messages`](Self::cause_messages).
    #[must_use]
    pub fn cause_messages(mut self, cause_messages: bool) -> Self {
        self.cause_messages = cause_messages;
        self
    }

    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}
