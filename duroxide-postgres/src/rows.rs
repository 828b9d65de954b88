//! Conversion of rows to values and back.

use duroxide::Payload;
use duroxide::Timestamp;
use duroxide::history::{TextMap, Waits};
use duroxide::id::{CallId, Epoch, ExecutionId, Identity, InstanceId, MessageId};
use duroxide::provider::{DAMAGED, DeliveryKey, InstanceStatus, Lane, MessageRow, NodeReport, Ready};
use semver::Version;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::fault::Fault;

/// Converts a number to the type of its column. Epochs, executions, events and calls are counters, far below the limit.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn natural(row: &Row, column: &str) -> Result<u64, Fault> {
    Ok(row.try_get::<_, i64>(column)?.max(0).unsigned_abs())
}

pub(crate) fn optional(row: &Row, column: &str) -> Result<Option<u64>, Fault> {
    Ok(row.try_get::<_, Option<i64>>(column)?.map(|number| number.max(0).unsigned_abs()))
}

pub(crate) fn epoch(row: &Row, column: &str) -> Result<Option<Epoch>, Fault> {
    Ok(optional(row, column)?.map(Epoch))
}

pub(crate) fn time(row: &Row, column: &str) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

pub(crate) fn optional_time(row: &Row, column: &str) -> Result<Option<Timestamp>, Fault> {
    Ok(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

/// Reads the calls that an instance waits for.
pub(crate) fn waits(row: &Row) -> Result<Option<Waits>, Fault> {
    let (text, since) = (row.try_get::<_, Option<String>>("waits")?, optional_time(row, "waits_since")?);
    let until = optional_time(row, "waits_until")?;
    Ok(text.zip(since).map(|(text, since)| Waits { text, since, until }))
}

/// Reads the report of a node. One that cannot be read is empty: see [`NodeReport::from_json`].
pub(crate) fn node_report(row: &Row) -> Result<NodeReport, Fault> {
    Ok(row.try_get::<_, Option<&str>>("report")?.map(NodeReport::from_json).unwrap_or_default())
}

pub(crate) fn identity(row: &Row, column: &str) -> Result<Identity, Fault> {
    Ok(Identity(row.try_get(column)?))
}

pub(crate) fn instance_id(row: &Row, column: &str) -> Result<InstanceId, Fault> {
    let text: String = row.try_get(column)?;
    InstanceId::try_from(text).map_err(|error| unreadable(column, &error))
}

/// Reads an execution from the columns `id` and `identity` of its instance, and `execution`.
pub(crate) fn execution(row: &Row) -> Result<ExecutionId, Fault> {
    Ok(ExecutionId {
        instance: instance_id(row, "id")?,
        identity: identity(row, "identity")?,
        number: natural(row, "execution")?,
    })
}

pub(crate) fn version(row: &Row, column: &str) -> Result<Option<Version>, Fault> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(Version::parse).transpose().map_err(|error| unreadable(column, &error))
}

pub(crate) fn status(row: &Row, column: &str) -> Result<InstanceStatus, Fault> {
    let text: &str = row.try_get(column)?;
    status_of(text).ok_or_else(|| Fault::Unreadable(format!("unknown {column} {text:?}")))
}

pub(crate) fn status_of(text: &str) -> Option<InstanceStatus> {
    InstanceStatus::ALL.into_iter().find(|status| status.as_str() == text)
}

pub(crate) fn text_map(row: &Row, column: &str) -> Result<TextMap, Fault> {
    let text: Option<&str> = row.try_get(column)?;
    text.map_or(Ok(TextMap::new()), serde_json::from_str).map_err(|error| unreadable(column, &error))
}

/// Returns headers or labels as JSON, or `None` if there are none.
pub(crate) fn text_map_json(map: &TextMap) -> Option<String> {
    let json = || serde_json::to_string(map).unwrap_or_else(|e| unreachable!("a map of texts is JSON: {e}"));
    (!map.is_empty()).then(json)
}

/// Returns a label's name or value as it is stored for finding: a text of the database cannot hold the character NUL. Two
/// texts have one form only if they are equal.
pub(crate) fn label(text: &str) -> String {
    text.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0")
}

/// Reads the value of a label that [`label`] stored.
pub(crate) fn read_label(stored: &str) -> String {
    stored.replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}")
}

fn unreadable(column: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::Unreadable(format!("the stored {column} cannot be read: {error}"))
}

/// The offset of items that are ready at once. Such an item is stored as the time since which it is ready, minus this
/// offset, and so sorts before all times.
pub(crate) const AT_ONCE: i64 = 1 << 62;
/// The earliest time that can be stored. An earlier one is rounded up to it.
pub(crate) const FIRST_TIME: i64 = -(1 << 61);

pub(crate) fn stored_ready(ready: Ready) -> i64 {
    match ready {
        Ready::AtOnce(since) => since.as_micros().clamp(FIRST_TIME, -FIRST_TIME - 1) - AT_ONCE,
        Ready::At(time) => time.as_micros().max(FIRST_TIME),
    }
}

/// Returns true if a stored time is that of an item which is ready at once.
pub(crate) fn is_at_once(stored: i64) -> bool {
    stored < FIRST_TIME
}

pub(crate) fn read_ready(stored: i64) -> Ready {
    if is_at_once(stored) {
        Ready::AtOnce(Timestamp::from_micros(stored.saturating_add(AT_ONCE)))
    } else {
        Ready::At(Timestamp::from_micros(stored))
    }
}

/// SQL for the time at which an item is ready at once, in the encoding of [`stored_ready`].
macro_rules! ready_by_time {
    ($since:literal) => {
        concat!("least(greatest(", $since, ", -2305843009213693952), 2305843009213693951) - 4611686018427387904")
    };
}
pub(crate) use ready_by_time;

/// SQL for the time at which a message `m` makes its instance ready, in the encoding of [`stored_ready`].
macro_rules! ready_by_message {
    () => {
        "CASE WHEN m.visible_at IS NULL
             THEN least(greatest(m.arrived_at, -2305843009213693952), 2305843009213693951) - 4611686018427387904
             ELSE greatest(m.visible_at, -2305843009213693952) END"
    };
}
pub(crate) use ready_by_message;
const _: () = assert!(FIRST_TIME == -2305843009213693952 && AT_ONCE == 4611686018427387904);

/// Reads the format of a row. A value out of range is newer than any known format.
pub(crate) fn format(row: &Row, column: &str) -> Result<u16, Fault> {
    Ok(u16::try_from(row.try_get::<_, i32>(column)?).unwrap_or(DAMAGED - 1))
}

pub(crate) fn payload(bytes: Option<&[u8]>) -> Payload {
    bytes.map_or(Payload::NULL, |bytes| Payload::from_json_bytes(bytes.to_vec()))
}

/// Returns the stored form of a payload: nothing for JSON's null.
pub(crate) fn payload_bytes(payload: &Payload) -> Option<&[u8]> {
    (!payload.is_null()).then(|| payload.as_bytes())
}

/// The columns of a message `m`, for a SELECT with a left join.
macro_rules! message_columns {
    () => {
        "m.id AS message, m.arrival, m.number, m.lane, m.execution AS for_execution, m.call, m.visible_at, m.arrived_at,
         m.format, m.data, m.payload"
    };
}
pub(crate) use message_columns;

pub(crate) fn lane(row: &Row, column: &str) -> Result<Lane, Fault> {
    Ok(match row.try_get::<_, i16>(column)? {
        0 => Lane::Start,
        1 => Lane::Carried,
        3 => Lane::End,
        _ => Lane::Normal,
    })
}

/// Reads a message and its key in the order of delivery. `None`: the left join has found none.
pub(crate) fn message(row: &Row, instance: i64) -> Result<Option<(DeliveryKey<i64>, MessageRow)>, Fault> {
    let Some(id) = row.try_get::<_, Option<Uuid>>("message")? else { return Ok(None) };
    let lane = lane(row, "lane")?;
    let visible_at = optional_time(row, "visible_at")?;
    let key = DeliveryKey {
        instance,
        lane,
        arrival: row.try_get("arrival")?,
        delayed: visible_at.is_some(),
        at: visible_at.map_or_else(|| time(row, "arrived_at"), Ok)?,
    };
    let message = MessageRow {
        id: MessageId(id),
        lane,
        execution: optional(row, "for_execution")?,
        call: optional(row, "call")?.map(CallId),
        visible_at,
        number: optional(row, "number")?,
        format: format(row, "format")?,
        data: row.try_get("data")?,
        payload: payload(row.try_get("payload")?),
    };
    Ok(Some((key, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_differ_are_stored_differently() {
        let texts = ["", "a", "\0", "\u{1}", "\u{1}0", "\u{1}1", "\0\u{1}", "\u{1}\u{1}0"];
        let stored: std::collections::HashSet<_> = texts.iter().map(|text| label(text)).collect();
        assert_eq!(stored.len(), texts.len());
        assert!(stored.iter().all(|text| !text.contains('\0')));
        assert_eq!(label("team"), "team");
        assert!(texts.iter().all(|text| read_label(&label(text)) == *text));
    }

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
