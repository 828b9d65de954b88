//! Parts of a history with previews of the values, and messages without their values.

use std::sync::Arc;

use rusqlite::Row;

use super::columns::columns;
use super::rows::{format, int, lane, natural, optional, time, uuid};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::id::{EventId, ExecutionId, InstanceId, MessageId};
use crate::provider::{
    DAMAGED, EventPreview, EventPreviews, HistoryPart, HistoryQuery, MessagePreview, MessagePreviews,
};

columns! {
    /// An event `e`, joined with payloads `p`. The beginning of its value is `?5` bytes long.
    mod preview {
        ID = "e.id",
        TIME = "e.time",
        DECISION = "e.decision",
        FORMAT = "e.format",
        DATA = "e.data",
        VALUE = "substr(coalesce(e.payload, p.data), 1, ?5)",
        LENGTH = "length(coalesce(e.payload, p.data))",
        LOST = "e.payload_ref IS NOT NULL AND p.id IS NULL",
        PLACE = "(SELECT text FROM duroxide_places WHERE id = e.place)",
    }
}

macro_rules! find {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            preview::list!(),
            " FROM duroxide_events e LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
             WHERE e.instance = (SELECT seq FROM duroxide_instances WHERE id = ?1 AND start_id = ?2) AND e.execution = ?3
                 AND NOT EXISTS (SELECT 1 FROM duroxide_removals
                     WHERE instance = (SELECT seq FROM duroxide_instances WHERE id = ?1) AND execution = ?3)
                 AND ",
            $condition,
            " LIMIT ?6"
        )
    };
}

pub(super) fn previews(sql: &Sql, execution: &ExecutionId, query: &HistoryQuery) -> rusqlite::Result<EventPreviews> {
    let (limit, preview) = query.bounds();
    let (find, position) = match query.part {
        HistoryPart::After(event) => (find!("e.id > ?4 ORDER BY e.id"), event),
        HistoryPart::Before(event) => (find!("e.id < ?4 ORDER BY e.id DESC"), event),
    };
    let ExecutionId { instance, identity, number } = execution;
    let (bytes, one_more) = (int(preview as u64), int(limit as u64 + 1));
    let params = (instance.as_str(), identity.0.as_bytes(), int(*number), int(position.0), bytes, one_more);
    let mut events = sql.rows(find, params, |row| event(row, preview))?;
    let more = events.len() > limit;
    events.truncate(limit);
    if let HistoryPart::Before(_) = query.part {
        events.reverse();
    }
    Ok(EventPreviews { events, more })
}

fn event(row: &Row<'_>, bytes: usize) -> rusqlite::Result<EventPreview> {
    let value: Option<Vec<u8>> = row.get(preview::VALUE)?;
    let length: Option<i64> = row.get(preview::LENGTH)?;
    let mut event = EventPreview {
        id: EventId(natural(row, preview::ID)?),
        time: time(row, preview::TIME)?,
        decision: row.get(preview::DECISION)?,
        format: format(row, preview::FORMAT)?,
        data: row.get(preview::DATA)?,
        length: length.map_or(NULL.len(), |length| usize::try_from(length).unwrap_or(usize::MAX)),
        value: value.unwrap_or_else(|| NULL[..NULL.len().min(bytes)].to_vec()),
        at: row.get::<_, Option<Arc<str>>>(preview::PLACE)?,
    };
    if row.get(preview::LOST)? {
        event.format = DAMAGED;
        event.data = "its payload is missing".to_owned();
    }
    Ok(event)
}

columns! {
    /// A message `m`.
    mod queued {
        ID = "m.id",
        LANE = "m.lane",
        EXECUTION = "m.execution",
        VISIBLE_AT = "m.visible_at",
        ARRIVED_AT = "m.arrived_at",
        FORMAT = "m.format",
        DATA = "m.data",
    }
}

/// Reads the first messages of an instance.
pub(super) fn messages(sql: &Sql, id: &InstanceId) -> rusqlite::Result<Option<MessagePreviews>> {
    let find = "SELECT seq FROM duroxide_instances WHERE id = ?1";
    let Some(seq) = sql.row(find, [id.as_str()], |row| row.get::<_, i64>(0))? else { return Ok(None) };
    let find = concat!(
        "SELECT ",
        queued::list!(),
        " FROM duroxide_messages m WHERE m.instance = ?1 ORDER BY m.arrival LIMIT ?2"
    );
    let mut messages = sql.rows(find, (seq, int(MessagePreviews::LIMIT as u64 + 1)), |row| {
        Ok(MessagePreview {
            id: MessageId(uuid(row, queued::ID)?),
            lane: lane(row, queued::LANE)?,
            execution: optional(row, queued::EXECUTION)?,
            visible_at: row.get::<_, Option<i64>>(queued::VISIBLE_AT)?.map(Timestamp::from_micros),
            stored_at: time(row, queued::ARRIVED_AT)?,
            format: format(row, queued::FORMAT)?,
            data: row.get(queued::DATA)?,
        })
    })?;
    let more = messages.len() > MessagePreviews::LIMIT;
    messages.truncate(MessagePreviews::LIMIT);
    Ok(Some(MessagePreviews { messages, more }))
}

/// The value that is stored as NULL.
const NULL: &[u8] = b"null";
