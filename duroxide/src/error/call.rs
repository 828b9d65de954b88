//! The error of a durable call.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Callee, Category, TimedOut};

/// The reason why a durable call within an orchestration has no result.
///
/// `E` is the error type of the called function. For any `E`, `?` converts this into [`duroxide::Error`](crate::Error).
///
/// ```
/// use duroxide::CallError;
/// let error: CallError<String> = CallError::Failed("card declined".to_owned());
/// assert_eq!(error.failed().map(String::as_str), Some("card declined"));
/// assert_eq!(error.to_string(), "card declined");
/// assert!(!error.is_timeout());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The function returned this error.
    Failed(E),
    /// A declared time limit passed.
    TimedOut(TimedOut<E>),
    /// The called function was cancelled.
    Cancelled {
        /// The reason that the requester gave.
        reason: String,
        /// The called function. `None`: the call was refused before it was scheduled, or a history of an older version does
        /// not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        callee: Option<Box<Callee>>,
    },
    /// An operator terminated the called function.
    Terminated {
        /// The reason that the requester gave.
        reason: String,
        /// The called function. `None`: the call was refused before it was scheduled, or a history of an older version does
        /// not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        callee: Option<Box<Callee>>,
    },
    /// The function panicked.
    Panicked {
        /// The instance, and the message of the panic.
        message: String,
        /// The called function. `None`: the call was refused before it was scheduled, or a history of an older version does
        /// not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        callee: Option<Box<Callee>>,
    },
    /// A value of the call is refused: it cannot be serialised, exceeds a limit, or is an id that is taken.
    Rejected {
        /// The reason, with the remedy.
        reason: String,
        /// The called function. `None`: the call was refused before it was scheduled, or a history of an older version does
        /// not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        callee: Option<Box<Callee>>,
    },
}

impl<E> CallError<E> {
    /// Returns the function's own error, if it returned one.
    pub fn failed(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Converts into the function's own error, if it returned one.
    ///
    /// # Errors
    /// `self` if the call failed for another reason.
    ///
    /// ```
    /// use duroxide::CallError;
    /// fn declined(error: CallError<String>) -> Result<String, CallError<String>> {
    ///     let reason = error.into_failed()?; // every other error goes to the caller
    ///     Ok(reason)
    /// }
    /// assert_eq!(declined(CallError::Failed("no funds".to_owned())), Ok("no funds".to_owned()));
    /// ```
    pub fn into_failed(self) -> Result<E, Self> {
        match self {
            Self::Failed(error) => Ok(error),
            other => Err(other),
        }
    }

    /// Returns true if a declared time limit passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// Returns true if the call was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// Returns the called function, if the failure names it. The function's own error does not; a time-out names it in
    /// [`TimedOut::activity`].
    pub fn callee(&self) -> Option<&Callee> {
        match self {
            Self::Failed(_) | Self::TimedOut(_) => None,
            Self::Cancelled { callee, .. }
            | Self::Terminated { callee, .. }
            | Self::Panicked { callee, .. }
            | Self::Rejected { callee, .. } => callee.as_deref(),
        }
    }

    /// Returns the category of the error.
    pub fn category(&self) -> Category {
        match self {
            Self::Failed(_) | Self::Panicked { .. } | Self::Rejected { .. } => Category::Application,
            Self::TimedOut(_) => Category::TimedOut,
            Self::Cancelled { .. } | Self::Terminated { .. } => Category::Cancelled,
        }
    }

    /// Converts the function's own error.
    pub fn map<F>(self, convert: impl FnOnce(E) -> F) -> CallError<F> {
        self.map_boxed(Box::new(convert))
    }

    /// Converts the function's own error. The conversion is boxed, since a time-out may contain a further error.
    pub(super) fn map_boxed<F>(self, convert: Box<dyn FnOnce(E) -> F + '_>) -> CallError<F> {
        match self {
            Self::Failed(error) => CallError::Failed(convert(error)),
            Self::TimedOut(timed_out) => CallError::TimedOut(timed_out.map_boxed(convert)),
            Self::Cancelled { reason, callee } => CallError::Cancelled { reason, callee },
            Self::Terminated { reason, callee } => CallError::Terminated { reason, callee },
            Self::Panicked { message, callee } => CallError::Panicked { message, callee },
            Self::Rejected { reason, callee } => CallError::Rejected { reason, callee },
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut(timed_out) => write!(f, "timed out: {timed_out}"),
            Self::Cancelled { reason, callee } => write!(f, "cancelled: {}{reason}", of(callee)),
            Self::Terminated { reason, callee } => write!(f, "terminated: {}{reason}", of(callee)),
            Self::Panicked { message, callee } => write!(f, "panicked: {}{message}", of(callee)),
            Self::Rejected { reason, callee } => write!(f, "rejected: {}{reason}", of(callee)),
        }
    }
}

/// Returns the text that names the called function before the reason.
fn of(callee: &Option<Box<Callee>>) -> String {
    callee.as_ref().map_or_else(String::new, |callee| format!("{callee}: "))
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Timeout;

    fn all() -> Vec<CallError<u8>> {
        let reason = || "why".to_owned();
        vec![
            CallError::Failed(7),
            CallError::TimedOut(TimedOut::new(Timeout::StartToClose)),
            CallError::Cancelled { reason: reason(), callee: None },
            CallError::Terminated { reason: reason(), callee: None },
            CallError::Panicked { message: reason(), callee: None },
            CallError::Rejected { reason: reason(), callee: None },
        ]
    }

    #[test]
    fn every_call_error_survives_serialization() {
        for error in all() {
            let json = serde_json::to_string(&error).unwrap();
            assert_eq!(serde_json::from_str::<CallError<u8>>(&json).unwrap(), error);
        }
    }

    #[test]
    fn every_call_error_has_a_message() {
        let shown: Vec<_> = all().iter().map(ToString::to_string).collect();
        let limit = "timed out: one attempt took longer than its start-to-close limit";
        assert_eq!(shown, ["7", limit, "cancelled: why", "terminated: why", "panicked: why", "rejected: why"]);
    }

    #[test]
    fn call_error_names_the_called_function() {
        let activity = |attempts| Some(Box::new(Callee::Activity { name: "charge".to_owned(), attempts }));
        let child = Some(Box::new(Callee::Orchestration { name: "ship".to_owned() }));
        let (message, reason) = ("why".to_owned(), "why".to_owned());
        let cases: [(CallError<u8>, &str); 3] = [
            (CallError::Panicked { message, callee: activity(4) }, "panicked: activity \"charge\", 4 attempts: why"),
            (CallError::Rejected { reason: reason.clone(), callee: activity(1) }, "rejected: activity \"charge\": why"),
            (CallError::Cancelled { reason, callee: child }, "cancelled: orchestration \"ship\": why"),
        ];
        for (error, shown) in cases {
            assert_eq!(error.to_string(), shown);
            let json = serde_json::to_string(&error).unwrap();
            assert_eq!(serde_json::from_str::<CallError<u8>>(&json).unwrap(), error);
            assert_eq!(error.clone().map(u16::from).callee(), error.callee());
        }
    }

    fn timed_out() -> CallError<u8> {
        let mut timed_out = TimedOut::new(Timeout::ScheduleToClose);
        timed_out.activity = Some("charge".to_owned());
        timed_out.after = Some(Duration::from_secs(30));
        timed_out.attempts = Some(4);
        timed_out.last = Some(Box::new(CallError::Failed(7)));
        CallError::TimedOut(timed_out)
    }

    #[test]
    fn time_out_shows_what_is_known() {
        assert_eq!(
            timed_out().to_string(),
            "timed out: activity \"charge\": all attempts together took longer than their schedule-to-close limit of 30s; \
             attempts: 4; the last error: 7"
        );
        let json = serde_json::to_string(&timed_out()).unwrap();
        assert_eq!(serde_json::from_str::<CallError<u8>>(&json).unwrap(), timed_out());
        let CallError::TimedOut(mapped) = timed_out().map(u64::from) else { panic!("it stays a time-out") };
        assert_eq!(mapped.last.unwrap().failed(), Some(&7));
    }

    #[test]
    fn bare_time_out_is_stored_as_by_older_versions() {
        let bare = CallError::<u8>::TimedOut(TimedOut::new(Timeout::StartToClose));
        assert_eq!(serde_json::to_string(&bare).unwrap(), r#"{"TimedOut":"StartToClose"}"#);
    }

    #[test]
    fn only_the_error_of_the_function_is_converted() {
        for error in all() {
            let mapped = error.clone().map(|n| n + 1);
            match error.clone().into_failed() {
                Ok(own) => assert_eq!(mapped.failed(), Some(&(own + 1))),
                Err(other) => assert_eq!((&mapped, other.failed()), (&error, None)),
            }
            assert_eq!(error.is_timeout(), error.category() == Category::TimedOut);
        }
    }
}
