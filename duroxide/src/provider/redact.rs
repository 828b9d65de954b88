//! The erasure of the values of finished instances.

use super::rows::{UnreadableRow, to_json};
use super::{EventRow, FailedAttempt};
use crate::history::{Decision, Input};
use crate::id::{AuditId, EventId, ExecutionId};
use crate::payload::Payload;
use crate::payload::erased::erase_text;

/// A request to erase the values of one execution of a finished instance.
///
/// Every event of the execution ([`EventRow::erase`]) and the errors of its kept attempts ([`FailedAttempt::erase`]) are
/// replaced by tombstones. [`InstanceRecord::cause`](super::InstanceRecord::cause) of the instance, which may quote an error,
/// is removed. All in one step, or nothing. A tombstone stays as it is: a repeated request has no effect
/// ([`Submitted::written`](super::Submitted::written) is false).
///
/// Answers: [`NotFound`](super::SubmitError::NotFound) if there is no such instance, even if another one has its id;
/// [`Live`](super::SubmitError::Live) if it has not finished or still has activities;
/// [`Unreadable`](super::SubmitError::Unreadable) if an event cannot be read. An execution without events has nothing to erase.
///
/// Once the first event of the last execution is a tombstone, a [`Graft`](super::Graft) does not continue the instance: it is
/// refused with [`Conflict`](super::SubmitError::Conflict), since its sender has read the values before.
#[derive(Debug, Clone)]
pub struct RedactRequest {
    /// The execution.
    pub execution: ExecutionId,
    /// The id of the audit entry of the erasure, which the tombstones name.
    pub receipt: AuditId,
}

impl EventRow {
    /// Replaces the value, and the texts that users have chosen, by tombstones: messages of failures, reasons, and the values
    /// of headers. Returns true if anything was replaced.
    ///
    /// The first event and the end of an execution always become tombstones, so that they name the receipt. Content that is
    /// not an event is replaced as a whole, since it may hold texts.
    ///
    /// # Errors
    /// The row is damaged, or of a format that this version does not know.
    pub fn erase(&mut self, receipt: AuditId) -> Result<bool, UnreadableRow> {
        UnreadableRow::check(|| format!("event {}", self.id), self.format, &self.data)?;
        let (has_value, has_texts) = if self.decision {
            erase_data::<Decision>(&mut self.data, receipt)
        } else {
            erase_data::<Input>(&mut self.data, receipt)
        };
        let is_value = has_value || self.id == EventId(1) || !self.payload.is_null();
        let is_erased = is_value && self.payload.receipt().is_none();
        if is_erased {
            self.payload = Payload::erased(receipt);
        }
        Ok(is_erased || has_texts)
    }
}

impl FailedAttempt {
    /// Replaces the error by a tombstone. Returns true unless it was one.
    pub fn erase(&mut self, receipt: AuditId) -> bool {
        erase_text(&mut self.error, receipt)
    }
}

trait Content: serde::Serialize + serde::de::DeserializeOwned {
    fn has_value(&self) -> bool;
    fn erase_texts(&mut self, receipt: AuditId) -> bool;
}

impl Content for Input {
    fn has_value(&self) -> bool {
        self.has_value()
    }

    fn erase_texts(&mut self, receipt: AuditId) -> bool {
        self.erase_texts(receipt)
    }
}

impl Content for Decision {
    fn has_value(&self) -> bool {
        self.has_value()
    }

    fn erase_texts(&mut self, receipt: AuditId) -> bool {
        self.erase_texts(receipt)
    }
}

/// Erases the texts of a content. Returns true if its payload is a value, and if texts were erased.
fn erase_data<T: Content>(data: &mut String, receipt: AuditId) -> (bool, bool) {
    let Ok(mut content) = serde_json::from_str::<T>(data) else { return (false, erase_text(data, receipt)) };
    let has_texts = content.erase_texts(receipt);
    if has_texts {
        *data = to_json(&content);
    }
    (content.has_value(), has_texts)
}
