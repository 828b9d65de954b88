//! Exports: from the rows of an instance to the form.

use std::fmt;

use serde_json::value::RawValue;

use super::form::{Attempt, Earlier, FORM, InstanceExport, OpenActivity, Paused, QueuedMessage, Waiting};
use crate::client::snapshot::Snapshot;
use crate::client::{Client, ClientError};
use crate::error::ErrorCode;
use crate::history::{SavedEvent, Time, Waits};
use crate::id::InstanceId;
use crate::payload::Payload;
use crate::provider::{
    AttemptRecord, EarlierExecution, EventRow, Filter, Page, PageToken, Ready, StoredActivity, StoredMessage,
    StoredPause,
};

/// The exports of the instances that match a filter, newest first. See [`Client::exports`].
#[derive(Debug)]
pub struct Exports {
    client: Client,
    filter: Filter,
    /// The ids of the page that are left, last first.
    page: Vec<InstanceId>,
    after: Option<PageToken>,
    is_last: bool,
}

impl Exports {
    /// Returns the next export; `None` after the last one. An instance that was deleted in the meantime is left out.
    ///
    /// # Errors
    /// As [`Client::export`]. The next call continues after that instance.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call returns the same export or the one after it.
    pub async fn next(&mut self) -> Option<Result<InstanceExport, ClientError>> {
        loop {
            if let Some(id) = self.page.pop() {
                match self.client.snapshot(&id).await {
                    Ok(Some(snapshot)) => return Some(InstanceExport::of(&snapshot)),
                    Ok(None) => continue,
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.is_last {
                return None;
            }
            match self.client.list(&self.filter, Page::new(100).after(self.after.clone())).await {
                Ok(list) => {
                    self.page = list.instances.into_iter().rev().map(|status| status.execution.instance).collect();
                    self.is_last = list.next.is_none();
                    self.after = list.next;
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Client {
    /// Reads an instance with all its histories and its state, to be kept, sent or [imported](Self::import) elsewhere.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// async fn save(client: &Client) -> duroxide::Result<()> {
    ///     let export = client.export("order-17").await?;
    ///     std::fs::write("order-17.json", export.to_json())?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, an event cannot be read, or the storage fails or has no
    /// [`Admin`](crate::provider::Admin).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn export(&self, id: impl AsRef<str>) -> Result<InstanceExport, ClientError> {
        let id = InstanceId::try_from(id.as_ref().to_owned())?;
        let snapshot = self.snapshot(&id).await?.ok_or_else(|| ClientError::not_found(&id))?;
        InstanceExport::of(&snapshot)
    }

    /// Exports all instances that match a filter, one after another.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::Filter;
    /// async fn print_all(client: &Client) -> duroxide::Result<()> {
    ///     let mut exports = client.exports(Filter::default());
    ///     while let Some(export) = exports.next().await {
    ///         println!("{}", export?.to_json());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn exports(&self, filter: Filter) -> Exports {
        Exports { client: self.clone(), filter, page: Vec::new(), after: None, is_last: false }
    }
}

impl InstanceExport {
    pub(super) fn of(snapshot: &Snapshot) -> Result<Self, ClientError> {
        let Snapshot { record, rows, history } = snapshot;
        let (id, state) = (&rows.execution.instance, &rows.state);
        let unreadable =
            |error: &dyn fmt::Display| ClientError::refused(id, ErrorCode::UnreadableEvent, error.to_string());
        let saved = |rows: &[EventRow]| rows.iter().map(saved_event).collect::<Result<Vec<_>, _>>();
        let earlier = |earlier: &EarlierExecution| {
            let EarlierExecution { number, continued_at, history } = earlier;
            Ok::<_, serde_json::Error>(Earlier {
                number: *number,
                continued_at: Time(*continued_at),
                history: saved(history)?,
            })
        };
        let earlier: Result<Vec<_>, _> = state.earlier.iter().map(earlier).collect();
        let messages: Result<Vec<_>, _> = rows.messages.iter().map(queued_message).collect();
        Ok(Self {
            duroxide_export: FORM,
            redacted: false,
            instance: id.clone(),
            identity: rows.execution.identity,
            name: record.name.clone(),
            version: record.version.clone(),
            status: state.status,
            labels: record.labels.clone(),
            parent: record.parent.clone(),
            created_at: Time(record.created_at),
            updated_at: Time(record.updated_at),
            finished_at: record.finished_at.map(Time),
            suspension: state.suspension.clone(),
            rejected_by: state.rejected_by.clone(),
            pause: state.pause.clone().map(|StoredPause { reason, until }| Paused { reason, until: until.map(Time) }),
            waits: state.waits.clone().map(|Waits { text, since, until }| Waiting {
                text,
                since: Time(since),
                until: until.map(Time),
            }),
            cause: state.cause.clone(),
            earlier: earlier.map_err(|error| unreadable(&error))?,
            execution: rows.execution.number,
            history: saved(history).map_err(|error| unreadable(&error))?,
            messages: messages.map_err(|error| unreadable(&error))?,
            activities: rows.activities.iter().map(open_activity).collect(),
            attempts: state.attempts.iter().map(attempt).collect(),
        })
    }
}

fn raw(payload: &Payload) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(payload.to_string())
}

fn saved_event(row: &EventRow) -> Result<SavedEvent, serde_json::Error> {
    Ok(SavedEvent {
        id: row.id,
        time: Time(row.time),
        decision: row.decision,
        format: row.format,
        data: RawValue::from_string(row.data.clone())?,
        payload: raw(&row.payload)?,
        at: row.at.as_deref().map(Box::from),
    })
}

fn queued_message(stored: &StoredMessage) -> Result<QueuedMessage, serde_json::Error> {
    let StoredMessage { row, stored_at, by_client } = stored;
    Ok(QueuedMessage {
        id: row.id,
        lane: row.lane,
        execution: row.execution,
        visible_at: row.visible_at.map(Time),
        stored_at: Time(*stored_at),
        by_client: *by_client,
        format: row.format,
        data: RawValue::from_string(row.data.clone())?,
        payload: raw(&row.payload)?,
    })
}

fn open_activity(stored: &StoredActivity) -> OpenActivity {
    let StoredActivity { execution, activity, attempt, ready, rejected, cause, other_cause, rejected_by, parked } =
        stored;
    let (not_before, ready_since) = match *ready {
        Ready::At(time) => (Some(Time(time)), Time(time)),
        Ready::AtOnce(since) => (None, Time(since)),
    };
    OpenActivity {
        execution: *execution,
        call: activity.call,
        scheduled: activity.scheduled,
        name: activity.name.clone(),
        tag: activity.tag.clone(),
        detached: activity.detached,
        headers: activity.headers.clone(),
        attempt: *attempt,
        not_before,
        ready_since,
        rejected: rejected.clone(),
        cause: cause.clone(),
        other_cause: other_cause.clone(),
        rejected_by: rejected_by.clone(),
        parked: *parked,
    }
}

fn attempt(record: &AttemptRecord) -> Attempt {
    let AttemptRecord { execution, call, attempt, node, next_at, failed } = record;
    Attempt {
        execution: *execution,
        call: *call,
        attempt: *attempt,
        node: *node,
        began: Time(failed.began),
        ended: Time(failed.ended),
        next_at: Time(*next_at),
        error: failed.error.clone(),
    }
}
