//! The retry policy and the time limits of activities, the close policy of children, and the size limits of values.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Retry and time limits of an activity. The default: one attempt, no limits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ActivityOptions {
    /// The policy by which failed attempts are retried. `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// The time limit of one attempt, from its start. An attempt that takes longer has failed.
    #[serde(with = "micros", skip_serializing_if = "Option::is_none")]
    pub start_to_close: Option<Duration>,
    /// The time limit from scheduling to the outcome: waits, attempts and the pauses between them.
    #[serde(with = "micros", skip_serializing_if = "Option::is_none")]
    pub schedule_to_close: Option<Duration>,
}

impl ActivityOptions {
    /// Creates options with one attempt and no limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the retry policy.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Limits one attempt.
    #[must_use]
    pub fn start_to_close(mut self, limit: Duration) -> Self {
        self.start_to_close = Some(limit);
        self
    }

    /// Limits all attempts together.
    #[must_use]
    pub fn schedule_to_close(mut self, limit: Duration) -> Self {
        self.schedule_to_close = Some(limit);
        self
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The policy by which failed attempts of an activity are retried.
///
/// The pause before attempt n + 1 is `initial_interval * backoff^(n - 1)`, at most `max_interval`. It is then shortened
/// at random by up to a tenth, so that activities which failed together do not retry together. An interval that is set
/// takes precedence over the default of the other one; if both are set, `max_interval` also limits the first pause.
///
/// ```
/// use duroxide::RetryPolicy;
/// use std::time::Duration;
/// let policy = RetryPolicy::new().max_attempts(5).initial_interval(Duration::from_millis(200));
/// assert_eq!(policy.pause_after(2), Some(Duration::from_millis(400)));
/// assert_eq!(policy.pause_after(5), None);
///
/// let hour = Duration::from_secs(3600);
/// assert_eq!(RetryPolicy::new().initial_interval(hour).pause_after(1), Some(hour));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The number of attempts, including the first. `None`, the default: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The pause after the first attempt. Default: 1 s, or `max_interval` if that is shorter.
    #[serde(with = "micros")]
    pub initial_interval: Option<Duration>,
    /// The longest pause. Default: 60 s, or `initial_interval` if that is longer.
    #[serde(with = "micros")]
    pub max_interval: Option<Duration>,
    /// The factor from each pause to the next. Default: 2. A factor below 1, or NaN, counts as 1.
    #[serde(with = "factor")]
    pub backoff: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: None, initial_interval: None, max_interval: None, backoff: 2.0 }
    }
}

impl RetryPolicy {
    const INITIAL_INTERVAL: Duration = Duration::from_secs(1);
    const MAX_INTERVAL: Duration = Duration::from_secs(60);

    /// Creates a policy with unlimited attempts and pauses of 1 s, 2 s, 4 s, up to 60 s.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of attempts, including the first. Zero counts as one.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts.max(1));
        self
    }

    /// Sets the pause after the first attempt. Without a [`max_interval`](Self::max_interval), no later pause is longer than
    /// 60 s or, if it is longer, than this one.
    #[must_use]
    pub fn initial_interval(mut self, pause: Duration) -> Self {
        self.initial_interval = Some(pause);
        self
    }

    /// Sets the longest pause.
    #[must_use]
    pub fn max_interval(mut self, pause: Duration) -> Self {
        self.max_interval = Some(pause);
        self
    }

    /// Sets the factor from each pause to the next. A factor below 1, or NaN, counts as 1.
    #[must_use]
    pub fn backoff(mut self, factor: f64) -> Self {
        self.backoff = factor.max(1.0);
        self
    }

    /// Returns the pause after the given attempt (from 1) has failed; `None` if it was the last.
    pub fn pause_after(&self, attempt: u32) -> Option<Duration> {
        if self.max_attempts.is_some_and(|max| attempt >= max) {
            return None;
        }
        let first = self.initial_interval.unwrap_or(Self::INITIAL_INTERVAL);
        // Only a maximum that was set may cut the first pause.
        let longest = self.max_interval.unwrap_or(Self::MAX_INTERVAL.max(first));
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        // Kept finite, because zero times infinity is NaN: an initial pause of zero must stay zero.
        let factor = factor::effective_factor(self.backoff).powi(exponent).min(f64::MAX);
        let seconds = first.as_secs_f64() * factor;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(longest).min(longest))
    }
}

/// The time limits of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Timeout {
    /// One attempt took too long.
    StartToClose,
    /// All attempts together, with the waits between them, took too long.
    ScheduleToClose,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartToClose => "one attempt took longer than its start-to-close limit",
            Self::ScheduleToClose => "all attempts together took longer than their schedule-to-close limit",
        })
    }
}

/// The policy that closes a child when its parent ends first, or drops the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClosePolicy {
    /// The child is asked to cancel.
    #[default]
    Cancel,
    /// The child is terminated.
    Terminate,
    /// The child continues.
    Abandon,
}

/// Size limits. A value beyond a limit is refused, with an error that names the limit, the size and the option.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// The limit of a payload in bytes: an input, an output, an error or an event. Default: 2 MiB.
    pub payload: usize,
    /// The limit of the history of one execution, in events; an instance beyond it is suspended. Default: 100,000.
    pub history: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload: 2 * 1024 * 1024, history: 100_000 }
    }
}

impl Limits {
    /// The option that sets the limits of a runtime and its client, for errors.
    pub(crate) const OPTION: &str = "RuntimeOptions::limits.payload";

    /// Sets the limit of a payload, in bytes.
    #[must_use]
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// Sets the limit of a history, in events.
    #[must_use]
    pub fn history(mut self, events: u64) -> Self {
        self.history = events;
        self
    }

    /// Returns no limits, for replay: a recorded value was accepted when it was recorded.
    pub(crate) fn unlimited() -> Self {
        Self { payload: usize::MAX, history: u64::MAX }
    }

    /// Refuses a payload that exceeds the limit. `subject` names it in the error.
    pub(crate) fn check(&self, subject: &str, payload: &crate::payload::Payload) -> Result<(), String> {
        self.check_by(subject, payload, Self::OPTION)
    }

    /// As [`check`](Self::check), with the option that sets the limit.
    pub(crate) fn check_by(
        &self,
        subject: &str,
        payload: &crate::payload::Payload,
        option: &str,
    ) -> Result<(), String> {
        let (size, limit) = (payload.len(), self.payload);
        if size <= limit {
            return Ok(());
        }
        Err(format!("{subject} has {size} bytes, the limit is {limit} (`{option}`)"))
    }
}

/// Stores the effective factor, since JSON cannot represent a non-finite float.
mod factor {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(factor: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(effective_factor(*factor))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        f64::deserialize(from).map(effective_factor)
    }

    pub(super) fn effective_factor(factor: f64) -> f64 {
        // `clamp` keeps NaN, and `NAN.max(1.0)` is 1.
        factor.clamp(1.0, f64::MAX).max(1.0)
    }
}

/// Durations are stored as whole microseconds.
pub(crate) mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_micros))
    }
}
