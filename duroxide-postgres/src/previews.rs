//! Parts of a history with previews of the values, and messages without their values.

use duroxide::Timestamp;
use duroxide::id::{EventId, ExecutionId, InstanceId, MessageId};
use duroxide::provider::{EventPreview, EventPreviews, HistoryPart, HistoryQuery, MessagePreview, MessagePreviews};
use tokio_postgres::Row;

use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{format, int, lane, natural, optional, optional_time, time};

/// Selects events of an execution: the rows of the part, at most one per event, and of these the events. The body is cut by the
/// server.
macro_rules! find {
    ($rows:literal, $events:literal) => {
        concat!(
            "SELECT e.first + h.n - 1 AS event, (h.head ->> 0)::bigint AS time, h.head ->> 1 = '1' AS decision,
                 (h.head ->> 2)::integer AS format, substr(e.body, h.start::integer + 1, (h.head ->> 3)::integer) AS data,
                 substr(e.body, (h.start + (h.head ->> 3)::bigint)::integer + 1,
                     least((h.head ->> 4)::bigint, $5)::integer) AS value,
                 (h.head ->> 4)::bigint AS length, nullif(h.head ->> 5, '') AS place
             FROM (SELECT e.* FROM instances i JOIN events e ON e.instance = i.seq
                 WHERE i.id = $1 AND i.identity = $2 AND e.execution = $3 AND ",
            $rows,
            " LIMIT $6) e
             CROSS JOIN LATERAL (
                 SELECT n, head, sum((head ->> 3)::bigint + (head ->> 4)::bigint) OVER (ORDER BY n)
                     - (head ->> 3)::bigint - (head ->> 4)::bigint AS start
                 FROM jsonb_array_elements(e.heads::jsonb) WITH ORDINALITY AS t (head, n)) h
             WHERE e.first + h.n - 1 ",
            $events,
            " LIMIT $6"
        )
    };
}
const AFTER: &str = find!("e.last > $4 ORDER BY e.last", "> $4 ORDER BY 1");
const BEFORE: &str = find!("e.first < $4 ORDER BY e.last DESC", "< $4 ORDER BY 1 DESC");

pub(crate) async fn read(
    connection: &Connection,
    execution: &ExecutionId,
    query: &HistoryQuery,
) -> Result<EventPreviews, Fault> {
    let (limit, preview) = query.bounds();
    let (find, position) = match query.part {
        HistoryPart::After(event) => (AFTER, event),
        HistoryPart::Before(event) => (BEFORE, event),
    };
    let ExecutionId { instance, identity, number } = execution;
    let (bytes, one_more) = (int(preview as u64), int(limit as u64 + 1));
    let step = step!(find, instance.as_str(), identity.0, int(*number), int(position.0), bytes, one_more);
    let rows = connection.query(step).await?;
    let mut events = rows.iter().take(limit).map(|row| event(row, preview)).collect::<Result<Vec<_>, _>>()?;
    if let HistoryPart::Before(_) = query.part {
        events.reverse();
    }
    Ok(EventPreviews { events, more: rows.len() > limit })
}

fn event(row: &Row, bytes: usize) -> Result<EventPreview, Fault> {
    let unreadable = |error: std::string::FromUtf8Error| Fault::Unreadable(format!("the stored event: {error}"));
    let length = natural(row, "length")?;
    let is_null = length == 0;
    Ok(EventPreview {
        id: EventId(natural(row, "event")?),
        time: Timestamp::from_micros(row.try_get("time")?),
        decision: row.try_get("decision")?,
        format: format(row, "format")?,
        data: String::from_utf8(row.try_get("data")?).map_err(unreadable)?,
        value: if is_null { NULL[..NULL.len().min(bytes)].to_vec() } else { row.try_get("value")? },
        length: if is_null { NULL.len() } else { usize::try_from(length).unwrap_or(usize::MAX) },
        at: row.try_get::<_, Option<&str>>("place")?.map(Into::into),
    })
}

/// Reads the first messages of an instance.
pub(crate) async fn messages(connection: &Connection, id: &InstanceId) -> Result<Option<MessagePreviews>, Fault> {
    let found = connection.query(step!("SELECT seq FROM instances WHERE id = $1", id.as_str())).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let seq: i64 = row.try_get("seq")?;
    let find = "SELECT id, lane, execution, visible_at, arrived_at, format, data FROM messages
        WHERE instance = $1 ORDER BY arrival LIMIT $2";
    let rows = connection.query(step!(find, seq, int(MessagePreviews::LIMIT as u64 + 1))).await?;
    let messages = rows.iter().take(MessagePreviews::LIMIT).map(message).collect::<Result<_, _>>()?;
    Ok(Some(MessagePreviews { messages, more: rows.len() > MessagePreviews::LIMIT }))
}

fn message(row: &Row) -> Result<MessagePreview, Fault> {
    Ok(MessagePreview {
        id: MessageId(row.try_get("id")?),
        lane: lane(row, "lane")?,
        execution: optional(row, "execution")?,
        visible_at: optional_time(row, "visible_at")?,
        stored_at: time(row, "arrived_at")?,
        format: format(row, "format")?,
        data: row.try_get("data")?,
    })
}

/// The value that is stored as nothing.
const NULL: &[u8] = b"null";
