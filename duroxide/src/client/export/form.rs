//! The form of an instance as JSON.

use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::ClientError;
use crate::error::ErrorCode;
use crate::history::{HistoryEvent, Parent, SavedEvent, TextMap, Time};
use crate::id::{CallId, Epoch, EventId, Identity, InstanceId, MessageId};
use crate::message::Lane;
use crate::provider::InstanceStatus;

/// One instance as JSON: its histories, its messages, its activities and its state.
///
/// The form is described on the page [Operations]; later versions of the library read it. It holds the values of the instance,
/// unless they are [redacted](Self::redacted): [`Debug`] does not show them.
///
/// [Operations]: https://github.com/duroxide/duroxide/blob/main/docs/operations.md#export-and-import
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceExport {
    pub(super) duroxide_export: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) redacted: bool,
    pub(super) instance: InstanceId,
    pub(super) identity: Identity,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<Version>,
    pub(super) status: InstanceStatus,
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub(super) labels: TextMap,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Parent>,
    pub(super) created_at: Time,
    pub(super) updated_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) finished_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) suspension: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rejected_by: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pause: Option<Paused>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waits: Option<Waiting>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<Earlier>,
    pub(super) execution: u64,
    pub(super) history: Vec<SavedEvent>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) messages: Vec<QueuedMessage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) activities: Vec<OpenActivity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) attempts: Vec<Attempt>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paused {
    pub(super) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Time>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    pub(super) text: String,
    pub(super) since: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Time>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Earlier {
    pub(super) number: u64,
    pub(super) continued_at: Time,
    pub(super) history: Vec<SavedEvent>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueuedMessage {
    pub(super) id: MessageId,
    pub(super) lane: Lane,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) execution: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) visible_at: Option<Time>,
    pub(super) stored_at: Time,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) by_client: bool,
    pub(super) format: u16,
    pub(super) data: Box<RawValue>,
    pub(super) payload: Box<RawValue>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenActivity {
    pub(super) execution: u64,
    pub(super) call: CallId,
    pub(super) scheduled: EventId,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tag: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) detached: bool,
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub(super) headers: TextMap,
    pub(super) attempt: u32,
    /// Its next attempt begins no earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_before: Option<Time>,
    pub(super) ready_since: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rejected: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) other_cause: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rejected_by: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) parked: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempt {
    pub(super) execution: u64,
    pub(super) call: CallId,
    pub(super) attempt: u32,
    pub(super) node: Epoch,
    pub(super) began: Time,
    pub(super) ended: Time,
    pub(super) next_at: Time,
    pub(super) error: String,
}

/// The form that this version writes, and the only one that it reads.
pub(super) const FORM: u32 = 1;
/// The longest text that is read, in bytes.
const MAX_TEXT: usize = 256 << 20;

impl InstanceExport {
    /// Returns the id of the instance.
    pub fn id(&self) -> &InstanceId {
        &self.instance
    }

    /// Returns the history of its current, or last, execution: for [`check_history`](crate::testing::check_history).
    ///
    /// # Errors
    /// [`ClientError`]: an event cannot be read, or the values are redacted.
    pub fn history(&self) -> Result<Vec<HistoryEvent>, ClientError> {
        if self.redacted {
            return Err(self.refused(&"its values are redacted"));
        }
        let event = |saved: &SavedEvent| HistoryEvent::try_from(saved).map_err(|error| self.refused(&error));
        self.history.iter().map(event).collect()
    }

    /// Returns it without values: each value is replaced by its size, and each text of an error by `redacted`. Such an
    /// export shows what has happened, for example in a bug report; it can be neither imported nor replayed.
    ///
    /// Names, ids, labels, headers, reasons of cancels and places in the source are kept.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        self.redacted = true;
        let earlier = self.earlier.iter_mut().flat_map(|earlier| &mut earlier.history);
        for event in earlier.chain(&mut self.history) {
            event.payload = size_of(&event.payload);
        }
        for message in &mut self.messages {
            message.payload = size_of(&message.payload);
        }
        for attempt in &mut self.attempts {
            attempt.error = "redacted".to_owned();
        }
        for activity in &mut self.activities {
            redact(&mut activity.rejected);
            redact(&mut activity.cause);
            redact(&mut activity.other_cause);
        }
        redact(&mut self.suspension);
        redact(&mut self.cause);
        if let Some(pause) = &mut self.pause {
            pause.reason = "redacted".to_owned();
        }
        self
    }

    /// Returns the source of a test that replays the history against the code of the day. `file`: the path of this export,
    /// from the file of the test.
    ///
    /// The test needs the feature `testing`.
    pub fn test_source(&self, file: &str) -> String {
        let mut name: String =
            self.instance.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect();
        name.make_ascii_lowercase();
        format!(
            "#[test]\nfn history_of_{name}_is_replayed() {{\n    \
             let export = duroxide::client::InstanceExport::from_json(include_str!({file:?})).expect(\"an export\");\n    \
             let history = export.history().expect(\"a readable history\");\n    \
             duroxide::testing::check_history(&duroxide::Registry::discover(), &history).expect(\"the code fits\");\n}}\n"
        )
    }

    /// Returns it as JSON, in one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("an export holds only text, numbers and JSON: {e}"))
    }

    /// Reads an export. Its content is checked by [`Client::import`](crate::Client::import).
    ///
    /// # Errors
    /// [`ClientError`] with [`ErrorCode::ExportRefused`]: the text is not an export, its form is that of a later version, or it
    /// is longer than 256 MiB.
    pub fn from_json(text: &str) -> Result<Self, ClientError> {
        let refused = |reason: String| ClientError::invalid(ErrorCode::ExportRefused, reason);
        if text.len() > MAX_TEXT {
            return Err(refused(format!("the export has {} bytes; the limit is {MAX_TEXT}", text.len())));
        }
        /// Later forms may have other fields.
        #[derive(Deserialize)]
        struct Form {
            duroxide_export: u32,
        }
        let unreadable = |error: serde_json::Error| refused(format!("the text is not an export: {error}"));
        let Form { duroxide_export: form } = serde_json::from_str(text).map_err(unreadable)?;
        if form != FORM {
            return Err(refused(format!("the export has form {form}; this version reads form {FORM}")));
        }
        serde_json::from_str(text).map_err(unreadable)
    }

    pub(super) fn refused(&self, reason: &dyn fmt::Display) -> ClientError {
        ClientError::refused(&self.instance, ErrorCode::ExportRefused, reason.to_string())
    }
}

impl fmt::Debug for InstanceExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceExport")
            .field("instance", &self.instance)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Replaces a text that may hold values, if there is one.
fn redact(text: &mut Option<String>) {
    *text = text.take().map(|_| "redacted".to_owned());
}

/// Returns the size of a value, as JSON.
fn size_of(payload: &RawValue) -> Box<RawValue> {
    let text = format!("\"redacted, {} bytes\"", payload.get().len());
    RawValue::from_string(text).unwrap_or_else(|e| unreachable!("a text is JSON: {e}"))
}
