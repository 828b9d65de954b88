//! Conversion of rows to values and back.

use rusqlite::Row;
use rusqlite::types::{FromSql, Type};
use semver::Version;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::{CallId, Epoch, EventId, ExecutionId, Identity, InstanceId, MessageId};
use crate::message::Lane;
use crate::payload::Payload;
use crate::provider::{DAMAGED, DeliveryKey, EventRow, InstanceStatus, MessageRow, Ready};

/// Converts a number to SQLite's integer type. Epochs, executions, events and calls are counters, far below the limit.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn natural(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0).unsigned_abs())
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

pub(super) fn epoch(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Epoch>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|epoch| Epoch(epoch.max(0).unsigned_abs())))
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

pub(super) fn instance_id(row: &Row<'_>, column: usize) -> rusqlite::Result<InstanceId> {
    parsed(row, column, |text: String| InstanceId::try_from(text))
}

/// Reads an execution from three columns, from `first` on: the id of its instance, the identity of the instance, and
/// its own number.
pub(super) fn execution(row: &Row<'_>, first: usize) -> rusqlite::Result<ExecutionId> {
    let identity =
        row.get::<_, Option<[u8; 16]>>(first + 1)?.map_or(Identity::UNKNOWN, |bytes| Identity(Uuid::from_bytes(bytes)));
    Ok(ExecutionId { instance: instance_id(row, first)?, identity, number: natural(row, first + 2)? })
}

pub(super) fn version(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Version>> {
    parsed(row, column, |text: Option<String>| text.map(|text| Version::parse(&text)).transpose())
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
fn payload(row: &Row<'_>, inline: usize) -> rusqlite::Result<Result<Payload, (u16, String)>> {
    let bytes: Option<Vec<u8>> = row.get(inline)?;
    let stored: Option<Vec<u8>> = row.get(inline + 2)?;
    let format = row.get::<_, Option<i64>>(inline + 3)?.map(in_range);
    let lost = row.get::<_, Option<i64>>(inline + 1)?.is_some() && stored.is_none();
    Ok(match format.filter(|format| *format > FORMAT) {
        Some(newer) => Err((newer, String::new())),
        None if lost => Err((DAMAGED, "its payload is missing".to_owned())),
        None => Ok(bytes.or(stored).map_or(Payload::NULL, Payload::from_json_bytes)),
    })
}

/// The columns of [`message`], in its order, for `m` joined with payloads `p`.
pub(super) const MESSAGE: &str = "m.arrival, m.id, m.lane, m.execution, m.call, m.visible_at, m.arrived_at, m.format, \
     m.data, m.payload, m.payload_ref, p.data, p.format, m.instance, m.number";

/// Reads a message and its key in the order of delivery.
pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<(DeliveryKey<i64>, MessageRow)> {
    let lane = match row.get(2)? {
        0 => Lane::Start,
        1 => Lane::Carried,
        _ => Lane::Normal,
    };
    let visible_at = row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros);
    let at = visible_at.map_or_else(|| time(row, 6), Ok)?;
    let key = DeliveryKey { instance: row.get(13)?, lane, arrival: row.get(0)?, delayed: visible_at.is_some(), at };
    let mut message = MessageRow {
        id: MessageId(uuid(row, 1)?),
        lane,
        execution: row.get::<_, Option<i64>>(3)?.map(|n| n.max(0).unsigned_abs()),
        call: row.get::<_, Option<i64>>(4)?.map(|n| CallId(n.max(0).unsigned_abs())),
        visible_at,
        number: row.get::<_, Option<i64>>(14)?.map(|n| n.max(0).unsigned_abs()),
        format: format(row, 7)?,
        data: row.get(8)?,
        payload: Payload::NULL,
    };
    match payload(row, 9)? {
        Ok(payload) => message.payload = payload,
        Err(unreadable) => (message.format, message.data) = unreadable,
    }
    Ok((key, message))
}

/// The columns of [`event`], in its order, for `e` joined with payloads `p`.
pub(super) const EVENT: &str = "e.id, e.time, e.decision, e.format, e.data, e.payload, e.payload_ref, p.data, p.format";

/// Reads an event whose columns begin at `first`.
pub(super) fn event(row: &Row<'_>, first: usize) -> rusqlite::Result<EventRow> {
    let mut event = EventRow {
        id: EventId(natural(row, first)?),
        time: time(row, first + 1)?,
        decision: row.get(first + 2)?,
        format: format(row, first + 3)?,
        data: row.get(first + 4)?,
        payload: Payload::NULL,
    };
    match payload(row, first + 5)? {
        Ok(payload) => event.payload = payload,
        Err(unreadable) => (event.format, event.data) = unreadable,
    }
    Ok(event)
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
