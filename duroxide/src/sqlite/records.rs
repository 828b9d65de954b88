//! Reads one instance and its history.

use rusqlite::Row;
use rusqlite::types::{Type, ValueRef};

use super::columns::columns;
use super::rows::{
    epoch, event, execution, instance_id, int, natural, read_ready, status, text_map, time, uuid, version,
};
use super::sql::Sql;
use super::unclaimed;
use crate::clock::Timestamp;
use crate::history::{Parent, Waits};
use crate::id::{CallId, EventId, ExecutionId, Identity, InstanceId};
use crate::provider::{EventRow, HistoryPage, InstanceRecord, InstanceStatus};

/// The limits of a page of history: the number of events, and the bytes after which no further event is read.
const PAGE: u32 = 1000;
const PAGE_BYTES: usize = 4 << 20;

pub(super) fn history(sql: &Sql, execution: &ExecutionId, after: EventId) -> rusqlite::Result<HistoryPage> {
    let find = concat!(
        "SELECT ",
        event::list!(),
        " FROM duroxide_events e LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE e.instance = (SELECT seq FROM duroxide_instances WHERE id = ?1 AND start_id = ?2) AND e.execution = ?3
             AND e.id > ?4
             AND NOT EXISTS (SELECT 1 FROM duroxide_removals
                 WHERE instance = (SELECT seq FROM duroxide_instances WHERE id = ?1) AND execution = ?3)
         ORDER BY e.id LIMIT ?5"
    );
    let ExecutionId { instance, identity, number } = execution;
    let params = (instance.as_str(), identity.0.as_bytes(), int(*number), int(after.0), PAGE + 1);
    let mut page = HistoryPage::default();
    let mut bytes = 0;
    sql.each(find, params, |row| {
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

columns! {
    /// An instance `i`.
    pub(super) mod record {
        SEQ = "i.seq",
        ID = "i.id",
        START_ID = "i.start_id",
        EXECUTION = "i.execution",
        NAME = "i.name",
        VERSION = "i.version",
        // An instance with a parked activity is shown as suspended, although its code may continue.
        STATUS = "iif(i.status = 'running' AND EXISTS (
            SELECT 1 FROM duroxide_activities s WHERE s.instance = i.seq AND s.parked IS NOT NULL), 'suspended', i.status)",
        LABELS = "i.labels",
        PARENT = "i.parent",
        PARENT_IDENTITY = "i.parent_identity",
        PARENT_EXECUTION = "i.parent_execution",
        PARENT_CALL = "i.parent_call",
        CREATED_AT = "i.created_at",
        UPDATED_AT = "i.updated_at",
        FINISHED_AT = "i.finished_at",
        LAST_EVENT = "i.last_event",
        // The reason why the instance is paused or suspended, or else why its first parked activity is parked.
        SUSPENSION = "coalesce(iif(i.status = 'suspended', coalesce(i.paused, i.suspension), NULL), (SELECT a.parked
            FROM duroxide_activities a WHERE a.instance = i.seq AND a.parked IS NOT NULL
            ORDER BY a.execution, a.call LIMIT 1))",
        CAUSE = "i.cause",
        WAITS = "i.waits",
        WAITS_SINCE = "coalesce(i.waits_since, i.created_at)",
        WAITS_UNTIL = "i.waits_until",
        OWNER = "i.owner",
        READY_AT = "i.ready_at",
    }
}

/// Reads an instance. An unreadable field is left empty, and the record is marked as damaged, so that one such row does
/// not fail a whole list.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<InstanceRecord> {
    let mut damaged = None;
    let instance = readable(&mut damaged, "id", instance_id(row, record::ID)).map_or_else(|| unnamed(row), Ok)?;
    let (identity, number) = (Identity(uuid(row, record::START_ID)?), natural(row, record::EXECUTION)?);
    Ok(InstanceRecord {
        execution: ExecutionId { instance, identity, number },
        name: row.get(record::NAME)?,
        version: readable(&mut damaged, "version", version(row, record::VERSION)).flatten(),
        status: readable(&mut damaged, "status", status(row, record::STATUS)).unwrap_or(InstanceStatus::Suspended),
        labels: readable(&mut damaged, "labels", text_map(row, record::LABELS)).unwrap_or_default(),
        parent: readable(&mut damaged, "parent", parent(row)).flatten(),
        created_at: time(row, record::CREATED_AT)?,
        updated_at: time(row, record::UPDATED_AT)?,
        finished_at: row.get::<_, Option<i64>>(record::FINISHED_AT)?.map(Timestamp::from_micros),
        last_event: EventId(natural(row, record::LAST_EVENT)?),
        outcome: None,
        suspension: row.get(record::SUSPENSION)?,
        cause: row.get(record::CAUSE)?,
        waits: waits(row, [record::WAITS, record::WAITS_SINCE, record::WAITS_UNTIL])?,
        owner: epoch(row, record::OWNER)?,
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
    let seq: i64 = row.get(record::SEQ)?;
    let name = InstanceId::new(format!("damaged-row-{seq}"));
    name.map_err(|error| rusqlite::Error::FromSqlConversionFailure(record::ID, Type::Text, Box::new(error)))
}

/// Reads the waits of an instance from the columns of their text, their beginning and their end.
pub(super) fn waits(row: &Row<'_>, [text, since, until]: [usize; 3]) -> rusqlite::Result<Option<Waits>> {
    let Some(text) = row.get(text)? else { return Ok(None) };
    let until = row.get::<_, Option<i64>>(until)?.map(Timestamp::from_micros);
    Ok(Some(Waits { text, since: time(row, since)?, until }))
}

fn parent(row: &Row<'_>) -> rusqlite::Result<Option<Parent>> {
    if row.get_ref(record::PARENT)? == ValueRef::Null {
        return Ok(None);
    }
    let execution = execution(row, [record::PARENT, record::PARENT_IDENTITY, record::PARENT_EXECUTION])?;
    Ok(Some(Parent { execution, call: CallId(natural(row, record::PARENT_CALL)?) }))
}

/// Reads one instance. Work that is due at `now` but that no node can run is shown as unclaimed.
pub(super) fn instance(sql: &Sql, id: &InstanceId, now: Timestamp) -> rusqlite::Result<Option<InstanceRecord>> {
    let find = concat!("SELECT ", record::list!(), " FROM duroxide_instances i WHERE i.id = ?1");
    let read = |row: &Row<'_>| {
        let ready_at = row.get::<_, Option<i64>>(record::READY_AT)?.map(read_ready);
        Ok((record(row)?, row.get(record::SEQ)?, ready_at))
    };
    let Some((mut record, seq, ready_at)) = sql.row(find, [id.as_str()], read)? else { return Ok(None) };
    if record.status.is_finished() {
        record.outcome = last_event(sql, seq, &record)?;
    }
    let ready_at = ready_at.map(|ready| ready.since(now)).filter(|since| *since <= now);
    record.unclaimed = unclaimed::find(sql, seq, &record, ready_at, now)?;
    Ok(Some(record))
}

fn last_event(sql: &Sql, seq: i64, record: &InstanceRecord) -> rusqlite::Result<Option<EventRow>> {
    let find = concat!(
        "SELECT ",
        event::list!(),
        " FROM duroxide_events e LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE e.instance = ?1 AND e.execution = ?2 AND e.id = ?3"
    );
    sql.row(find, (seq, int(record.execution.number), int(record.last_event.0)), |row| event(row, 0))
}
