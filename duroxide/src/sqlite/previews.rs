//! Parts of a history with previews of the values.

use std::sync::Arc;

use rusqlite::Row;

use super::columns::columns;
use super::rows::{format, int, natural, time};
use super::sql::Sql;
use crate::id::{EventId, ExecutionId};
use crate::provider::{DAMAGED, EventPreview, EventPreviews, HistoryPart, HistoryQuery};

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

/// The value that is stored as NULL.
const NULL: &[u8] = b"null";
