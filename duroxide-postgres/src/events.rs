//! The rows of events: one per turn, or per part of a large turn.
//!
//! The lengths in `heads` are bytes, so `body` is bytes as well: it holds the texts and values as they came, without a
//! copy in another encoding.

use duroxide::Payload;
use duroxide::Timestamp;
use duroxide::id::EventId;
use duroxide::provider::{DAMAGED, EventRow};
use tokio_postgres::Row;

use crate::fault::Fault;
use crate::rows::{natural, payload_bytes};

/// The size of a body above which the next event begins a new row.
const PART: usize = 64 << 10;

/// A row of events.
#[derive(Debug, Default)]
pub(crate) struct EventsRow {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) heads: String,
    pub(crate) body: Vec<u8>,
}

/// Packs the events of a turn into rows.
pub(crate) fn pack(events: &[EventRow]) -> Vec<EventsRow> {
    let mut rows: Vec<EventsRow> = Vec::new();
    for event in events {
        let payload = payload_bytes(&event.payload).unwrap_or_default();
        let is_full = rows.last().is_none_or(|row| row.body.len() + event.data.len() + payload.len() > PART);
        if is_full {
            rows.push(EventsRow { first: event.id.0, heads: "[".to_owned(), ..EventsRow::default() });
        }
        let Some(row) = rows.last_mut() else { continue };
        if row.heads.len() > 1 {
            row.heads.push(',');
        }
        let at = serde_json::Value::from(event.at.as_deref().unwrap_or_default());
        let (time, decision) = (event.time.as_micros(), u8::from(event.decision));
        row.heads += &format!("[{time},{decision},{},{},{},{at}]", event.format, event.data.len(), payload.len());
        row.body.extend_from_slice(event.data.as_bytes());
        row.body.extend_from_slice(payload);
        row.last = event.id.0;
    }
    rows.iter_mut().for_each(|row| row.heads.push(']'));
    rows
}

/// Reads the events of a row.
pub(crate) fn unpack(row: &Row) -> Result<Vec<EventRow>, Fault> {
    let (first, heads, body) = (natural(row, "first")?, row.try_get("heads")?, row.try_get("body")?);
    Ok(split(first, heads, body).unwrap_or_else(|reason| vec![damaged(first, reason)]))
}

fn split(first: u64, heads: &str, body: &[u8]) -> Result<Vec<EventRow>, String> {
    // The last one is the place of its call, or empty.
    type Head = (i64, u8, u16, usize, usize, String);
    let heads: Vec<Head> = serde_json::from_str(heads).map_err(|error| format!("its heads: {error}"))?;
    let mut rest = body;
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length).ok_or("its body is too short")?;
        rest = left;
        Ok::<_, String>(taken)
    };
    let mut events = Vec::with_capacity(heads.len());
    for (id, (time, decision, format, data, payload, at)) in (first..).zip(heads) {
        let data = take(data)?;
        let payload = take(payload)?;
        events.push(EventRow {
            id: EventId(id),
            time: Timestamp::from_micros(time),
            decision: decision == 1,
            format,
            data: String::from_utf8(data.to_vec()).map_err(|error| format!("its data: {error}"))?,
            payload: if payload.is_empty() { Payload::NULL } else { Payload::from_json_bytes(payload.to_vec()) },
            at: (!at.is_empty()).then(|| at.into()),
        });
    }
    Ok(events)
}

/// Returns a substitute for unreadable events. Its format marks it as damaged.
pub(crate) fn damaged(id: u64, reason: String) -> EventRow {
    EventRow {
        id: EventId(id),
        time: Timestamp::from_micros(0),
        decision: true,
        format: DAMAGED,
        data: reason,
        payload: Payload::NULL,
        at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u64, size: usize) -> EventRow {
        let payload = if size == 0 { Payload::NULL } else { Payload::encode(&"ü".repeat(size)).unwrap_or_default() };
        EventRow {
            id: EventId(id),
            time: Timestamp::from_micros(-5),
            decision: id.is_multiple_of(2),
            format: 3,
            data: format!("\"é {id}\""),
            payload,
            at: id.is_multiple_of(3).then(|| "src/\"é\".rs:1:2".into()),
        }
    }

    #[test]
    fn packed_events_are_read_back() {
        let sizes = [0, 1, 0, 40_000, 40_000, 7, 0];
        let events: Vec<_> = (10..).zip(sizes).map(|(id, size)| event(id, size)).collect();
        let rows = pack(&events);
        assert_eq!(
            rows.iter().map(|row| (row.first, row.last)).collect::<Vec<_>>(),
            [(10, 12), (13, 13), (14, 14), (15, 16)]
        );
        let read = rows.iter().flat_map(|row| split(row.first, &row.heads, &row.body).expect("readable"));
        assert_eq!(read.collect::<Vec<_>>(), events);
        assert!(pack(&[]).is_empty());
        assert!(split(1, &rows[0].heads, &rows[0].body[1..]).is_err());
    }
}
