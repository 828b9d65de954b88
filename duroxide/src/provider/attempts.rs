//! The activities of an instance and their failed attempts, for people.

use super::Ready;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::{CallId, Epoch};
use crate::payload::Payload;

/// A failed attempt of an activity that will be repeated. The failure of the last attempt is the outcome of the call, in
/// the history.
///
/// Of each call, the first [`FIRST`](Self::FIRST) and the last [`LAST`](Self::LAST) failed attempts are kept, as long as
/// its execution. The numbers of the attempts show how many are missing between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// When it began, by the clock of its node.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The failure and the error of the activity, at most [`MAX_ERROR`](Self::MAX_ERROR) bytes.
    pub error: String,
}

impl FailedAttempt {
    /// The number of attempts that are kept of the first ones of a call.
    pub const FIRST: u32 = 3;
    /// The number of attempts that are kept of the last ones of a call.
    pub const LAST: u32 = 20;
    /// The longest error, in bytes.
    pub const MAX_ERROR: usize = 4096;

    /// Returns the number of the attempt that is no longer kept once an attempt is recorded.
    pub fn replaced_by(attempt: u32) -> Option<u32> {
        attempt.checked_sub(Self::LAST).filter(|replaced| *replaced > Self::FIRST)
    }
}

/// Returns an error value of user code as text: of an [`Error`] its message and causes, of a text the text itself,
/// otherwise JSON.
pub(crate) fn error_value_text(value: &Payload) -> String {
    let error = value.decode::<Error>().ok();
    // Another type may have these fields and more.
    let error = error.filter(|error| Payload::encode(error).is_ok_and(|stored| stored == *value));
    match error {
        Some(error) => format!("{error:#}"),
        None => value.decode::<String>().unwrap_or_else(|_| value.to_string()),
    }
}

/// A failed attempt, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The number of the execution.
    pub execution: u64,
    /// The call of the activity.
    pub call: CallId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The node that ran it.
    pub node: Epoch,
    /// When the next attempt might begin.
    pub next_at: Timestamp,
    /// The attempt.
    pub failed: FailedAttempt,
}

/// An activity that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityRecord {
    /// The number of the execution.
    pub execution: u64,
    /// The call.
    pub call: CallId,
    /// Its name.
    pub name: String,
    /// The tag that a node must serve to run it, if any.
    pub tag: Option<String>,
    /// The number of its current or next attempt, from 1.
    pub attempt: u32,
    /// When its next attempt may begin. `None` while a node owns it.
    pub ready: Option<Ready>,
    /// The node that owns it.
    pub owner: Option<Epoch>,
    /// True if it is parked: no node can run it.
    pub parked: bool,
    /// The cause of its last failed attempt or, while it is parked, of its rejection: a text that failures with one cause
    /// share.
    pub cause: Option<String>,
}

/// The activities of an instance, sorted by execution and call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceActivities {
    /// The activities that have not ended, at most [`LIMIT`](Self::LIMIT).
    pub open: Vec<ActivityRecord>,
    /// The kept failed attempts of all its activities, including those that have ended; at most [`LIMIT`](Self::LIMIT),
    /// those of the last calls.
    pub failed: Vec<AttemptRecord>,
}

impl InstanceActivities {
    /// The longest list.
    pub const LIMIT: usize = 1000;
}
