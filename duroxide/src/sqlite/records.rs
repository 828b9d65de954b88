//! Reads one instance and its history.

use rusqlite::Row;

use super::members::{self, NODE};
use super::rows::{EVENT, epoch, event, instance_id, int, natural, read_ready, status, text_map, time, uuid, version};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::history::Parent;
use crate::id::{CallId, EventId, ExecutionId, Identity, InstanceId};
use crate::provider::{EventRow, Handlers, HistoryPage, InstanceRecord, InstanceStatus, Unclaimed};

/// The limits of a page of history: the number of events, and the bytes after which no further event is read.
const PAGE: u32 = 1000;
const PAGE_BYTES: usize = 4 << 20;

pub(super) fn history(sql: &Sql, execution: &ExecutionId, after: EventId) -> rusqlite::Result<HistoryPage> {
    let find = format!(
        "SELECT {EVENT} FROM duroxide_events e LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE e.instance = (SELECT seq FROM duroxide_instances WHERE id = ?1 AND start_id = ?2) AND e.execution = ?3
             AND e.id > ?4
         ORDER BY e.id LIMIT ?5"
    );
    let ExecutionId { instance, identity, number } = execution;
    let params = (instance.as_str(), identity.0.as_bytes(), int(*number), int(after.0), PAGE + 1);
    let mut page = HistoryPage::default();
    let mut bytes = 0;
    sql.each(&find, params, |row| {
        if page.events.len() == PAGE as usize || bytes >= PAGE_BYTES {
            page.more = true;
            return Ok(false);
        }
        let event = event(row, 0)?;
        bytes += event.data.len() + event.payload.len();
        page.events.push(event);
        Ok(true)
    })?;
    Ok(page)
}

/// The columns of [`record`], in its order, for instances `i`.
pub(super) const RECORD: &str =
    "i.id, i.execution, i.name, i.version, i.status, i.labels, i.parent, i.parent_execution,
    i.parent_call, i.created_at, i.updated_at, i.finished_at, i.last_event, i.owner,
    coalesce(iif(i.status = 'suspended', i.suspension, NULL), (SELECT a.parked FROM duroxide_activities a
        WHERE a.instance = i.seq AND a.parked IS NOT NULL ORDER BY a.execution, a.call LIMIT 1)), i.seq, i.ready_at,
    i.start_id, i.parent_identity";
/// The index of the column with the arrival number.
pub(super) const SEQ: usize = 15;

/// Reads an instance. An unreadable field is left empty, and the record is marked as damaged, so that one such row does
/// not fail a whole list.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<InstanceRecord> {
    let mut damaged = None;
    let instance = readable(&mut damaged, "id", instance_id(row, 0)).map_or_else(|| unnamed(row), Ok)?;
    Ok(InstanceRecord {
        execution: ExecutionId { instance, identity: Identity(uuid(row, 17)?), number: natural(row, 1)? },
        name: row.get(2)?,
        version: readable(&mut damaged, "version", version(row, 3)).flatten(),
        status: readable(&mut damaged, "status", status(row, 4)).unwrap_or(InstanceStatus::Suspended),
        labels: readable(&mut damaged, "labels", text_map(row, 5)).unwrap_or_default(),
        parent: readable(&mut damaged, "parent", parent(row)).flatten(),
        created_at: time(row, 9)?,
        updated_at: time(row, 10)?,
        finished_at: row.get::<_, Option<i64>>(11)?.map(Timestamp::from_micros),
        last_event: EventId(natural(row, 12)?),
        outcome: None,
        suspension: row.get(14)?,
        owner: epoch(row, 13)?,
        unclaimed: None,
        damaged,
    })
}

/// Returns the value of a field, or adds the reason why it cannot be read to `damaged`.
fn readable<T>(damaged: &mut Option<String>, field: &str, read: rusqlite::Result<T>) -> Option<T> {
    read.inspect_err(|error| {
        let reason = format!("its stored {field} cannot be read: {error}");
        *damaged = Some(damaged.take().map_or_else(|| reason.clone(), |before| format!("{before}; {reason}")));
    })
    .ok()
}

/// Returns a substitute for an invalid instance id.
fn unnamed(row: &Row<'_>) -> rusqlite::Result<InstanceId> {
    let seq: i64 = row.get(SEQ)?;
    let name = InstanceId::new(format!("damaged-row-{seq}"));
    name.map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

fn parent(row: &Row<'_>) -> rusqlite::Result<Option<Parent>> {
    if row.get_ref(6)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    let identity =
        row.get::<_, Option<[u8; 16]>>(18)?.map_or(Identity::UNKNOWN, |bytes| Identity(uuid::Uuid::from_bytes(bytes)));
    let execution = ExecutionId { instance: instance_id(row, 6)?, identity, number: natural(row, 7)? };
    Ok(Some(Parent { execution, call: CallId(natural(row, 8)?) }))
}

/// Reads one instance. Work that is due at `now` but that no node can run is shown as unclaimed.
pub(super) fn instance(sql: &Sql, id: &InstanceId, now: Timestamp) -> rusqlite::Result<Option<InstanceRecord>> {
    let find = format!("SELECT {RECORD} FROM duroxide_instances i WHERE i.id = ?1");
    let read = |row: &Row<'_>| Ok((record(row)?, row.get(SEQ)?, row.get::<_, Option<i64>>(16)?.map(read_ready)));
    let Some((mut record, seq, ready_at)) = sql.row(&find, [id.as_str()], read)? else { return Ok(None) };
    if record.status.is_finished() {
        record.outcome = last_event(sql, seq, &record)?;
    }
    let ready_at = ready_at.map(|ready| ready.since(now)).filter(|since| *since <= now);
    record.unclaimed = unclaimed(sql, seq, &record, ready_at, now)?;
    Ok(Some(record))
}

fn last_event(sql: &Sql, seq: i64, record: &InstanceRecord) -> rusqlite::Result<Option<EventRow>> {
    let find = format!(
        "SELECT {EVENT} FROM duroxide_events e LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE e.instance = ?1 AND e.execution = ?2 AND e.id = ?3"
    );
    sql.row(&find, (seq, int(record.execution.number), int(record.last_event.0)), |row| event(row, 0))
}

fn unclaimed(
    sql: &Sql,
    seq: i64,
    record: &InstanceRecord,
    ready_at: Option<Timestamp>,
    now: Timestamp,
) -> rusqlite::Result<Option<Unclaimed>> {
    let find = "SELECT name, tag, visible_at FROM duroxide_activities
        WHERE instance = ?1 AND owner IS NULL AND parked IS NULL AND visible_at <= ?2 ORDER BY execution, call";
    let waiting: Vec<(String, Option<String>, Timestamp)> = sql
        .rows(find, (seq, now.as_micros()), |row| Ok((row.get(0)?, row.get(1)?, read_ready(row.get(2)?).since(now))))?;
    if waiting.is_empty() && ready_at.is_none() {
        return Ok(None);
    }
    let nodes = sql.rows(&format!("SELECT {NODE} FROM duroxide_nodes"), [], members::node)?;
    let handlers = || nodes.iter().map(|(_, info)| &info.handlers);
    let version = record.version.as_ref();
    let runs = |h: &Handlers| h.orchestrations.iter().any(|(n, v)| *n == record.name && version.is_none_or(|p| p == v));
    let itself = ready_at.filter(|_| !handlers().any(runs)).map(|since| {
        let version = version.map(|v| format!(" {v}")).unwrap_or_default();
        Unclaimed { what: format!("orchestration {}{version}", record.name), since }
    });
    let serves = |h: &Handlers, tag: &Option<String>| match (&h.tags, tag) {
        (Some(tags), Some(tag)) => tags.contains(tag),
        _ => true,
    };
    let unserved =
        |(name, tag): (&String, &Option<String>)| !handlers().any(|h| h.activities.contains(name) && serves(h, tag));
    let waiting = waiting.into_iter().filter(|(name, tag, _)| unserved((name, tag)));
    let activities = waiting.map(|(name, tag, since)| {
        let tag = tag.map(|tag| format!(" with tag {tag}")).unwrap_or_default();
        Unclaimed { what: format!("activity {name}{tag}"), since }
    });
    Ok(itself.into_iter().chain(activities).min_by_key(|unclaimed| unclaimed.since))
}
