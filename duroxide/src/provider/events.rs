//! Parts of a history with previews of the values, for people.

use std::sync::Arc;

use super::EventRow;
use crate::clock::Timestamp;
use crate::id::EventId;

/// A part of a history: from its beginning, its end, or an event in it.
///
/// ```
/// use duroxide::id::EventId;
/// use duroxide::provider::HistoryQuery;
///
/// // The last 50 events, and then the 50 before them.
/// let last = HistoryQuery::last(50);
/// let before = HistoryQuery::before(EventId(951), 50).preview(200);
/// assert_eq!((last.limit, before.preview), (50, 200));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The part.
    pub part: HistoryPart,
    /// The maximum number of events, at most [`MAX_EVENTS`](Self::MAX_EVENTS). Zero counts as one.
    pub limit: usize,
    /// The number of bytes of each value that are returned. Default: 4096. All events together have at most
    /// [`MAX_BYTES`](Self::MAX_BYTES), so a query of one event returns a large value as a whole.
    pub preview: usize,
}

/// The place of a part in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryPart {
    /// The events after this one; zero: from the first one.
    After(EventId),
    /// The events before this one, those nearest to it.
    Before(EventId),
}

impl HistoryQuery {
    /// The most events of one answer.
    pub const MAX_EVENTS: usize = 1000;
    /// The most bytes of values of one answer.
    pub const MAX_BYTES: usize = 16 << 20;

    /// Returns the query of the first events.
    pub fn first(limit: usize) -> Self {
        Self::after(EventId(0), limit)
    }

    /// Returns the query of the last events.
    pub fn last(limit: usize) -> Self {
        Self::before(EventId(u64::MAX), limit)
    }

    /// Returns the query of the events after this one.
    pub fn after(event: EventId, limit: usize) -> Self {
        Self { part: HistoryPart::After(event), limit, preview: 4096 }
    }

    /// Returns the query of the events before this one.
    pub fn before(event: EventId, limit: usize) -> Self {
        Self { part: HistoryPart::Before(event), limit, preview: 4096 }
    }

    /// Sets the number of bytes of each value.
    #[must_use]
    pub fn preview(mut self, bytes: usize) -> Self {
        self.preview = bytes;
        self
    }

    /// Returns the number of events to read, and the bytes of each value, within the limits.
    pub fn bounds(&self) -> (usize, usize) {
        let limit = self.limit.clamp(1, Self::MAX_EVENTS);
        (limit, self.preview.min(Self::MAX_BYTES / limit))
    }
}

/// An event with a preview of its value.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPreview {
    /// Its position in the history of its execution.
    pub id: EventId,
    /// When it was recorded.
    pub time: Timestamp,
    /// True for a decision, false for an input.
    pub decision: bool,
    /// The format of `data`.
    pub format: u16,
    /// The content, as JSON.
    pub data: String,
    /// The beginning of its value: JSON text, which may be cut anywhere.
    pub value: Vec<u8>,
    /// The length of the whole value, in bytes.
    pub length: usize,
    /// The place in the source of the call that a decision schedules.
    pub at: Option<Arc<str>>,
}

impl EventPreview {
    /// Cuts the value of an event.
    pub(super) fn of(row: &EventRow, preview: usize) -> Self {
        let bytes = row.payload.as_bytes();
        Self {
            id: row.id,
            time: row.time,
            decision: row.decision,
            format: row.format,
            data: row.data.clone(),
            value: bytes[..bytes.len().min(preview)].to_vec(),
            length: bytes.len(),
            at: row.at.clone(),
        }
    }
}

/// A part of a history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventPreviews {
    /// The events, oldest first.
    pub events: Vec<EventPreview>,
    /// True if there are more events in the direction of the query: later ones for [`HistoryPart::After`], earlier ones for
    /// [`HistoryPart::Before`].
    pub more: bool,
}
