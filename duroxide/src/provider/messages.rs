//! The messages of an instance without their values, for people.

use super::{MessageRow, UnreadableRow};
use crate::clock::Timestamp;
use crate::history::Input;
use crate::id::MessageId;
use crate::message::Lane;

/// A message that no turn has consumed, without its value.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagePreview {
    /// Its id.
    pub id: MessageId,
    /// The lane in which it is delivered.
    pub lane: Lane,
    /// The execution that it is for. `None`: the current one.
    pub execution: Option<u64>,
    /// The time before which it is not delivered. `None`: it is delivered at once.
    pub visible_at: Option<Timestamp>,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// The format of `data`.
    pub format: u16,
    /// The content, as JSON.
    pub data: String,
}

impl MessagePreview {
    /// Returns a message without its value.
    pub(super) fn of(row: &MessageRow, stored_at: Timestamp) -> Self {
        let (id, lane, execution, visible_at) = (row.id, row.lane, row.execution, row.visible_at);
        Self { id, lane, execution, visible_at, stored_at, format: row.format, data: row.data.clone() }
    }

    /// Returns the name of the external event that it is, if it is one that this version can read.
    pub(crate) fn event_name(&self) -> Option<String> {
        UnreadableRow::check(|| format!("message {}", self.id), self.format, &self.data).ok()?;
        match serde_json::from_str(&self.data) {
            Ok(Input::EventRaised { name, .. }) => Some(name),
            _ => None,
        }
    }
}

/// The first messages of an instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MessagePreviews {
    /// The messages, in the order of their arrival; at most [`LIMIT`](Self::LIMIT).
    pub messages: Vec<MessagePreview>,
    /// True if there are more messages after these.
    pub more: bool,
}

impl MessagePreviews {
    /// The most messages of one answer.
    pub const LIMIT: usize = 1000;
}
