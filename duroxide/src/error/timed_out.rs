//! A time-out of a call, with the facts that were recorded about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::CallError;
use crate::policy::{Timeout, micros};

/// A declared time limit of an activity that has passed.
///
/// Its facts come from the history, so they are the same on replay. A history of an older version has only the limit.
///
/// ```
/// use duroxide::error::{CallError, TimedOut};
/// use duroxide::Timeout;
///
/// fn is_overall(error: &CallError<String>) -> bool {
///     matches!(error, CallError::TimedOut(TimedOut { limit: Timeout::ScheduleToClose, .. }))
/// }
/// assert!(is_overall(&CallError::TimedOut(TimedOut::new(Timeout::ScheduleToClose))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut<E> {
    /// The limit that passed.
    pub limit: Timeout,
    /// The name of the activity.
    pub activity: Option<String>,
    /// The duration of the limit.
    pub after: Option<Duration>,
    /// The number of attempts. `None`: unknown, since an attempt was running or waiting when the limit passed.
    pub attempts: Option<u32>,
    /// The error of the last attempt that failed before the limit passed.
    pub last: Option<Box<CallError<E>>>,
}

impl<E> TimedOut<E> {
    /// Creates a time-out of which only the limit is known.
    pub fn new(limit: Timeout) -> Self {
        Self { limit, activity: None, after: None, attempts: None, last: None }
    }

    /// Converts the function's own error in it.
    pub(super) fn map_boxed<F>(self, convert: Box<dyn FnOnce(E) -> F + '_>) -> TimedOut<F> {
        let Self { limit, activity, after, attempts, last } = self;
        TimedOut { limit, activity, after, attempts, last: last.map(|last| Box::new(last.map_boxed(convert))) }
    }
}

/// The stored form of a time-out of which more is known than the limit.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Full<L> {
    limit: Timeout,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activity: Option<String>,
    #[serde(default, with = "micros", skip_serializing_if = "Option::is_none")]
    after: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    last: Option<L>,
}

/// The forms that are read: older versions store only the limit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored<L> {
    Limit(Timeout),
    Full(Full<L>),
}

impl<E: Serialize> Serialize for TimedOut<E> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { limit, activity, after, attempts, last } = self;
        if activity.is_none() && after.is_none() && attempts.is_none() && last.is_none() {
            return limit.serialize(to);
        }
        let (activity, last) = (activity.clone(), last.as_deref());
        Full { limit: *limit, activity, after: *after, attempts: *attempts, last }.serialize(to)
    }
}

impl<'de, E: Deserialize<'de>> Deserialize<'de> for TimedOut<E> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Stored::<Box<CallError<E>>>::deserialize(from)? {
            Stored::Limit(limit) => Self::new(limit),
            Stored::Full(Full { limit, activity, after, attempts, last }) => {
                Self { limit, activity, after, attempts, last }
            }
        })
    }
}

impl<E: fmt::Display> fmt::Display for TimedOut<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, activity, after, attempts, last } = self;
        if let Some(activity) = activity {
            write!(f, "activity {activity:?}: ")?;
        }
        write!(f, "{limit}")?;
        if let Some(after) = after {
            write!(f, " of {}", humantime::format_duration(*after))?;
        }
        if let Some(attempts) = attempts {
            write!(f, "; attempts: {attempts}")?;
        }
        match last {
            Some(last) => write!(f, "; the last error: {last}"),
            None => Ok(()),
        }
    }
}
