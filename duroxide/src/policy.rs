//! How an activity is to be run, and which sizes are refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Retry and time limits of an activity. The default: one attempt, no limits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ActivityOptions {
    /// How often and when a failed attempt is made again. `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// The longest that one attempt may take, from its start. An attempt that takes longer has failed.
    #[serde(with = "micros", skip_serializing_if = "Option::is_none")]
    pub start_to_close: Option<Duration>,
    /// The longest that all may take, from scheduling: waits, attempts and the pauses between them.
    #[serde(with = "micros", skip_serializing_if = "Option::is_none")]
    pub schedule_to_close: Option<Duration>,
}

impl ActivityOptions {
    /// One attempt, no limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes failed attempts again, as this policy says.
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

/// When a failed attempt of an activity is made again.
///
/// The pause before attempt n + 1 is `initial_interval * backoff^(n - 1)`, at most `max_interval`, and then shortened at
/// random by up to a tenth, so that what failed together does not come back together.
///
/// ```
/// use duroxide::RetryPolicy;
/// use std::time::Duration;
/// let policy = RetryPolicy::new().max_attempts(5).initial_interval(Duration::from_millis(200));
/// assert_eq!(policy.pause_after(2), Some(Duration::from_millis(400)));
/// assert_eq!(policy.pause_after(5), None);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in all, the first included. `None`, the default: without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The pause after the first attempt. Default: 1 s.
    #[serde(with = "micros")]
    pub initial_interval: Option<Duration>,
    /// The longest pause. Default: 60 s.
    #[serde(with = "micros")]
    pub max_interval: Option<Duration>,
    /// What each pause is multiplied with to give the next. Default: 2. What is below 1, or is not a number, counts as 1.
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

    /// Attempts without end, 1 s after the first, doubling up to 60 s.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many attempts are made in all, the first included. Zero counts as one.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts.max(1));
        self
    }

    /// Sets the pause after the first attempt.
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

    /// Sets what each pause is multiplied with to give the next. What is below 1, or is not a number, counts as 1.
    #[must_use]
    pub fn backoff(mut self, factor: f64) -> Self {
        self.backoff = factor.max(1.0);
        self
    }

    /// The pause after the given attempt (from 1) has failed; `None` when that was the last.
    pub fn pause_after(&self, attempt: u32) -> Option<Duration> {
        if self.max_attempts.is_some_and(|max| attempt >= max) {
            return None;
        }
        let longest = self.max_interval.unwrap_or(Self::MAX_INTERVAL);
        let first = self.initial_interval.unwrap_or(Self::INITIAL_INTERVAL);
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        // Not beyond what is finite: no pause stays none.
        let factor = factor::that_counts(self.backoff).powi(exponent).min(f64::MAX);
        let seconds = first.as_secs_f64() * factor;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(longest).min(longest))
    }
}

/// Sizes beyond which values are refused, with an error that names the limit, the value and the knob.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// The longest payload in bytes: input, output, error or event. Default: 2 MiB.
    pub payload: usize,
    /// The longest history of one execution in events; an instance beyond it is suspended. Default: 100,000.
    pub history: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload: 2 * 1024 * 1024, history: 100_000 }
    }
}

impl Limits {
    /// Sets the longest payload, in bytes.
    #[must_use]
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// Sets the longest history, in events.
    #[must_use]
    pub fn history(mut self, events: u64) -> Self {
        self.history = events;
        self
    }

    /// No limits: what a history holds was accepted when it was recorded.
    pub(crate) fn unlimited() -> Self {
        Self { payload: usize::MAX, history: u64::MAX }
    }

    /// Says what is wrong with a payload that is too long.
    pub(crate) fn check(&self, what: &str, payload: &crate::payload::Payload) -> Result<(), String> {
        let (size, limit) = (payload.len(), self.payload);
        if size <= limit {
            return Ok(());
        }
        Err(format!("{what} has {size} bytes, the limit is {limit} (`RuntimeOptions::limits.payload`)"))
    }
}

/// Factors are stored and read as what they count as: JSON has no word for what is not finite.
mod factor {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(factor: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(that_counts(*factor))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        f64::deserialize(from).map(that_counts)
    }

    pub(super) fn that_counts(factor: f64) -> f64 {
        // What is not a number stays so when it is clamped; of it and 1, the larger is 1.
        factor.clamp(1.0, f64::MAX).max(1.0)
    }
}

/// Durations are stored as whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_micros))
    }
}
