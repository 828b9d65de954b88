//! The notification that a transaction of the program sends when it commits.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A notification within a transaction holds a lock of the whole server while the transaction is flushed, so a process sends
/// at most one per this time. The others are found by the same look, or by the poll.
const PAUSE: Duration = Duration::from_millis(50);

/// The text of the notification: it is from no process, so that each one heeds it.
const NOTICE: &str = r#"{"from":"","work":true,"outbox":true,"changed":[]}"#;

/// Limits the number of notifications.
#[derive(Default)]
pub(crate) struct NoticeLimit {
    /// A std mutex, held for a few instructions.
    last: Mutex<Option<Instant>>,
}

impl NoticeLimit {
    /// Returns the notification, unless one was sent just before.
    pub(crate) fn notice(&self) -> Option<&'static str> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return None;
        }
        *last = Some(now);
        Some(NOTICE)
    }
}
