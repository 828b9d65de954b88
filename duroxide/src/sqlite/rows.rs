//! Conversion of rows to values and back.

use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::{FromSql, Type};
use semver::Version;
use uuid::Uuid;

use super::columns::columns;
use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::{CallId, Epoch, EventId, ExecutionId, Identity, InstanceId, MessageId};
use crate::message::Lane;
use crate::payload::Payload;
use crate::provider::{DAMAGED, DeliveryKey, EventRow, InstanceStatus, MessageRow, NodeReport, Ready};

/// Converts a number to SQLite's integer type. Epochs, executions, events and calls are counters, far below the limit.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn natural(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0).unsigned_abs())
}

/// Reads a number that may be absent.
pub(super) fn optional(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|number| number.max(0).unsigned_abs()))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

pub(super) fn epoch(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Epoch>> {
    Ok(optional(row, column)?.map(Epoch))
}

pub(super) fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

/// Reads a column and parses its text.
pub(super) fn parsed<S: FromSql, T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(S) -> Result<T, E>,
) -> rusqlite::Result<T> {
    parse(row.get(column)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// Reads the report of a node. One that cannot be read is empty: see [`NodeReport::from_json`].
pub(super) fn node_report(row: &Row<'_>, column: usize) -> rusqlite::Result<NodeReport> {
    Ok(row.get_ref(column)?.as_str_or_null().ok().flatten().map(NodeReport::from_json).unwrap_or_default())
}

pub(super) fn instance_id(row: &Row<'_>, column: usize) -> rusqlite::Result<InstanceId> {
    parsed(row, column, |text: String| InstanceId::try_from(text))
}

/// Reads an execution from three columns: the id of its instance, the identity of the instance, and its own number.
pub(super) fn execution(row: &Row<'_>, [id, identity, number]: [usize; 3]) -> rusqlite::Result<ExecutionId> {
    let identity = row.get::<_, Option<[u8; 16]>>(identity)?;
    let identity = identity.map_or(Identity::UNKNOWN, |bytes| Identity(Uuid::from_bytes(bytes)));
    Ok(ExecutionId { instance: instance_id(row, id)?, identity, number: natural(row, number)? })
}

/// The key of an activity: the number of its instance, its execution and its call.
pub(super) type ActivityKey = (i64, i64, i64);

columns! {
    /// The key of an activity `a`.
    pub(super) mod activity_key { INSTANCE = "a.instance", EXECUTION = "a.execution", CALL = "a.call" }
}

/// Reads the key of an activity from the first columns.
pub(super) fn activity_key(row: &Row<'_>) -> rusqlite::Result<ActivityKey> {
    Ok((row.get(activity_key::INSTANCE)?, row.get(activity_key::EXECUTION)?, row.get(activity_key::CALL)?))
}

pub(super) fn version(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Version>> {
    parsed(row, column, |text: Option<String>| text.map(|text| Version::parse(&text)).transpose())
}

/// Reads a status. An unknown one counts as suspended: the instance is live, and can be terminated.
pub(super) fn status_or_suspended(row: &Row<'_>, column: usize) -> InstanceStatus {
    status(row, column).unwrap_or(InstanceStatus::Suspended)
}

pub(super) fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<InstanceStatus> {
    #[derive(Debug, thiserror::Error)]
    #[error("unknown status {0:?}")]
    struct Unknown(String);
    let find = |text: String| InstanceStatus::ALL.into_iter().find(|s| s.as_str() == text).ok_or(Unknown(text));
    parsed(row, column, find)
}

/// The offset of items that are ready at once. Such an item is stored as the time since which it is ready, minus this
/// offset, and so sorts before all times. One column and one index hold both kinds, and the minimum of several values
/// is the one that counts.
pub(super) const AT_ONCE: i64 = 1 << 62;
/// The earliest time that can be stored, 73,000 years ago. An earlier one is rounded up to it.
pub(super) const FIRST_TIME: i64 = -(1 << 61);

pub(super) fn stored_ready(ready: Ready) -> i64 {
    match ready {
        Ready::AtOnce(since) => since.as_micros().clamp(FIRST_TIME, -FIRST_TIME - 1) - AT_ONCE,
        Ready::At(time) => time.as_micros().max(FIRST_TIME),
    }
}

pub(super) fn read_ready(stored: i64) -> Ready {
    if stored < FIRST_TIME {
        Ready::AtOnce(Timestamp::from_micros(stored.saturating_add(AT_ONCE)))
    } else {
        Ready::At(Timestamp::from_micros(stored))
    }
}

/// Reads the format of a row.
pub(super) fn format(row: &Row<'_>, column: usize) -> rusqlite::Result<u16> {
    row.get(column).map(in_range)
}

/// Converts a format. A value out of range is newer than any known format.
fn in_range(format: i64) -> u16 {
    u16::try_from(format).unwrap_or(DAMAGED - 1)
}

/// Reads headers or labels: JSON, or NULL if there are none.
pub(super) fn text_map(row: &Row<'_>, column: usize) -> rusqlite::Result<TextMap> {
    parsed(row, column, |text: Option<String>| text.map_or(Ok(TextMap::new()), |text| serde_json::from_str(&text)))
}

pub(super) fn text_map_json(map: &TextMap) -> Option<String> {
    let json = || serde_json::to_string(map).unwrap_or_else(|e| unreachable!("a map of texts is JSON: {e}"));
    (!map.is_empty()).then(json)
}

/// The newest format of stored values that this version reads.
const FORMAT: u16 = 1;

/// Reads a payload from four columns: its inline value, its reference, the referenced value, and the format of that. If
/// it cannot be read, returns the format and the text to put in the row instead.
fn payload(
    row: &Row<'_>,
    [inline, reference, stored, format]: [usize; 4],
) -> rusqlite::Result<Result<Payload, (u16, String)>> {
    let bytes: Option<Vec<u8>> = row.get(inline)?;
    let stored: Option<Vec<u8>> = row.get(stored)?;
    let format = row.get::<_, Option<i64>>(format)?.map(in_range);
    let lost = row.get::<_, Option<i64>>(reference)?.is_some() && stored.is_none();
    Ok(match format.filter(|format| *format > FORMAT) {
        Some(newer) => Err((newer, String::new())),
        None if lost => Err((DAMAGED, "its payload is missing".to_owned())),
        None => Ok(bytes.or(stored).map_or(Payload::NULL, Payload::from_json_bytes)),
    })
}

columns! {
    /// A message `m`, joined with payloads `p`.
    pub(super) mod message {
        ARRIVAL = "m.arrival",
        INSTANCE = "m.instance",
        ID = "m.id",
        LANE = "m.lane",
        EXECUTION = "m.execution",
        CALL = "m.call",
        VISIBLE_AT = "m.visible_at",
        ARRIVED_AT = "m.arrived_at",
        NUMBER = "m.number",
        FORMAT = "m.format",
        DATA = "m.data",
        PAYLOAD = "m.payload",
        PAYLOAD_REF = "m.payload_ref",
        STORED_PAYLOAD = "p.data",
        STORED_FORMAT = "p.format",
    }
}

pub(super) fn lane(row: &Row<'_>, column: usize) -> rusqlite::Result<Lane> {
    Ok(match row.get(column)? {
        0 => Lane::Start,
        1 => Lane::Carried,
        3 => Lane::End,
        _ => Lane::Normal,
    })
}

/// Reads a message and its key in the order of delivery.
pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<(DeliveryKey<i64>, MessageRow)> {
    let lane = lane(row, message::LANE)?;
    let visible_at = row.get::<_, Option<i64>>(message::VISIBLE_AT)?.map(Timestamp::from_micros);
    let key = DeliveryKey {
        instance: row.get(message::INSTANCE)?,
        lane,
        arrival: row.get(message::ARRIVAL)?,
        delayed: visible_at.is_some(),
        at: visible_at.map_or_else(|| time(row, message::ARRIVED_AT), Ok)?,
    };
    let mut read = MessageRow {
        id: MessageId(uuid(row, message::ID)?),
        lane,
        execution: optional(row, message::EXECUTION)?,
        call: optional(row, message::CALL)?.map(CallId),
        visible_at,
        number: optional(row, message::NUMBER)?,
        format: format(row, message::FORMAT)?,
        data: row.get(message::DATA)?,
        payload: Payload::NULL,
    };
    let columns = [message::PAYLOAD, message::PAYLOAD_REF, message::STORED_PAYLOAD, message::STORED_FORMAT];
    match payload(row, columns)? {
        Ok(payload) => read.payload = payload,
        Err(unreadable) => (read.format, read.data) = unreadable,
    }
    Ok((key, read))
}

columns! {
    /// An event `e`, joined with payloads `p`.
    pub(super) mod event {
        ID = "e.id",
        TIME = "e.time",
        DECISION = "e.decision",
        FORMAT = "e.format",
        DATA = "e.data",
        PAYLOAD = "e.payload",
        PAYLOAD_REF = "e.payload_ref",
        STORED_PAYLOAD = "p.data",
        STORED_FORMAT = "p.format",
        PLACE = "(SELECT text FROM duroxide_places WHERE id = e.place)",
    }
}

/// Reads an event whose columns begin at `first`.
pub(super) fn event(row: &Row<'_>, first: usize) -> rusqlite::Result<EventRow> {
    let mut read = EventRow {
        id: EventId(natural(row, first + event::ID)?),
        time: time(row, first + event::TIME)?,
        decision: row.get(first + event::DECISION)?,
        format: format(row, first + event::FORMAT)?,
        data: row.get(first + event::DATA)?,
        payload: Payload::NULL,
        at: row.get::<_, Option<Arc<str>>>(first + event::PLACE)?,
    };
    let columns = [event::PAYLOAD, event::PAYLOAD_REF, event::STORED_PAYLOAD, event::STORED_FORMAT];
    match payload(row, columns.map(|column| first + column))? {
        Ok(payload) => read.payload = payload,
        Err(unreadable) => (read.format, read.data) = unreadable,
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_ready_at_once_sorts_before_all_times() {
        let times = [i64::MIN, -1, 0, 1_577_836_800_000_000, i64::MAX].map(Timestamp::from_micros);
        for since in times {
            for time in times {
                assert!(stored_ready(Ready::AtOnce(since)) < stored_ready(Ready::At(time)), "{since:?}, {time:?}");
            }
        }
        for ready in times[1..4].iter().flat_map(|time| [Ready::AtOnce(*time), Ready::At(*time)]) {
            assert_eq!(read_ready(stored_ready(ready)), ready);
        }
    }
}
