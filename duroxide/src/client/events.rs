//! Parts of a history with previews of the values.

use std::sync::Arc;

use super::{Client, ClientError, Handle};
use crate::clock::Timestamp;
use crate::history::{EventKind, HistoryEvent};
use crate::id::{EventId, ExecutionId};
use crate::payload::Payload;
use crate::provider::{EventPreview, EventRow, HistoryQuery};

/// A part of a history. See [`Handle::events`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EventList {
    /// The events, oldest first.
    pub events: Vec<EventView>,
    /// True if there are more events in the direction of the query.
    pub more: bool,
}

/// An event with the beginning of its value.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EventView {
    /// Its position in the history.
    pub id: EventId,
    /// The time of its recording.
    pub time: Timestamp,
    /// The input or decision, or the reason why this version cannot read it.
    pub kind: Result<EventKind, String>,
    /// The place in the source of the call that a decision schedules.
    pub at: Option<Arc<str>>,
    /// The beginning of its value, as JSON text that may be cut between any two characters.
    pub value: String,
    /// The length of the whole value, in bytes.
    pub length: usize,
}

impl EventView {
    /// Returns true if the value is cut.
    pub fn is_cut(&self) -> bool {
        self.value.len() < self.length
    }
}

impl From<EventPreview> for EventView {
    fn from(preview: EventPreview) -> Self {
        let EventPreview { id, time, decision, format, data, value, length, at } = preview;
        let row = EventRow { id, time, decision, format, data, payload: Payload::NULL, at: at.clone() };
        let kind = HistoryEvent::try_from(row).map(|event| event.kind).map_err(|error| error.to_string());
        let valid = match std::str::from_utf8(&value) {
            Ok(_) => value.len(),
            // A character was cut in two.
            Err(error) => error.valid_up_to(),
        };
        let value = String::from_utf8_lossy(&value[..valid]).into_owned();
        Self { id, time, kind, at, value, length }
    }
}

impl<O> Handle<O> {
    /// Reads a part of the history of the current or last execution, from its beginning, its end, or an event in it; with the
    /// beginnings of the values, which the storage cuts. Also a history of many large values is read in bounded pages.
    ///
    /// ```
    /// use duroxide::client::Untyped;
    /// use duroxide::prelude::*;
    /// use duroxide::provider::HistoryQuery;
    ///
    /// /// Prints the last 20 events, and the first 80 bytes of their values.
    /// async fn tail(handle: &Handle<Untyped>) -> duroxide::Result<()> {
    ///     for event in handle.events(HistoryQuery::last(20).preview(80)).await?.events {
    ///         let cut = if event.is_cut() { ".." } else { "" };
    ///         println!("{} {} {}{cut}", event.id, event.time, event.value);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, or the storage fails or has no [`Admin`](crate::provider::Admin). An event
    /// that cannot be read is an entry of the list.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn events(&self, query: HistoryQuery) -> Result<EventList, ClientError> {
        let (client, execution) = self.current().await?;
        client.event_list(&execution, query).await
    }

    /// As [`events`](Self::events), of one execution by its number, from 1. Empty if the execution does not exist or was pruned.
    ///
    /// # Errors
    /// As [`events`](Self::events).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn events_of(&self, number: u64, query: HistoryQuery) -> Result<EventList, ClientError> {
        let (client, current) = self.current().await?;
        client.event_list(&ExecutionId { number, ..current }, query).await
    }
}

impl Client {
    async fn event_list(&self, execution: &ExecutionId, query: HistoryQuery) -> Result<EventList, ClientError> {
        let admin = self.admin()?;
        let read = self.ask(|| admin.events(execution, &query)).await?;
        Ok(EventList { events: read.events.into_iter().map(EventView::from).collect(), more: read.more })
    }
}
