//! The error of a text that does not match its type.

use super::redact::redact_de_reason;
use super::{Action, Payload, PayloadError};

/// A redacted error of serde, with its place in the text of the payload.
pub struct ReadError {
    reason: String,
    /// From 1; zero if the place is not known.
    line: usize,
    column: usize,
}

impl ReadError {
    /// Converts an error about a part of the payload, which begins at this position.
    pub(super) fn new(error: &serde_json::Error, payload: &Payload, position: usize) -> Self {
        let before = payload.text().get(..position).unwrap_or_default();
        let (lines, last) = match before.rfind('\n') {
            Some(end) => (before.matches('\n').count(), position - end - 1),
            None => (0, position),
        };
        let (line, column) = match error.line() {
            0 => (0, 0),
            1 => (lines + 1, last + error.column()),
            line => (lines + line, error.column()),
        };
        Self { reason: redact_de_reason(error), line, column }
    }

    /// Returns the error for a reader of this type.
    pub(crate) fn of_type(self, type_name: &str) -> PayloadError {
        let Self { reason, line, column } = self;
        let reason = if line == 0 { reason } else { format!("{reason} at line {line} column {column}") };
        PayloadError { type_name: type_name.to_owned(), action: Action::Read, path: String::new(), reason }
    }

    /// Returns the reason, and the position after the wrong part.
    pub(super) fn into_parts(self) -> (String, usize) {
        (self.reason, self.column)
    }
}
