//! Reads one instance and its history.

use duroxide::Timestamp;
use duroxide::history::Parent;
use duroxide::id::{CallId, EventId, ExecutionId, InstanceId};
use duroxide::provider::{EventRow, Finished, HistoryPage, InstanceRecord, InstanceStatus, Unclaimed};
use tokio_postgres::Row;

use crate::connect::{Connection, Step, step};
use crate::events;
use crate::fault::Fault;
use crate::rollout::Members;
use crate::rows::{
    epoch, identity, instance_id, int, natural, optional_time, read_ready, status, text_map, time, version, waits,
};
use crate::state::State;

/// The limits of a page of history: the number of events, the rows that one statement reads, and the bytes after which it
/// reads no further row.
const PAGE: usize = 1000;

const HISTORY: &str = "
    SELECT first, last, heads, body FROM (
        SELECT e.first, e.last, e.heads, e.body,
            sum(octet_length(e.body)) OVER (ORDER BY e.last) - octet_length(e.body) AS before
        FROM instances i JOIN events e ON e.instance = i.seq
        WHERE i.id = $1 AND i.identity = $2 AND e.execution = $3 AND e.last > $4
        ORDER BY e.last LIMIT 1001) w
    WHERE w.before < 4194304 ORDER BY last";

pub(crate) async fn history(
    connection: &Connection,
    execution: &ExecutionId,
    after: EventId,
) -> Result<HistoryPage, Fault> {
    let ExecutionId { instance, identity, number } = execution;
    let last = "SELECT coalesce(max(e.last), 0) AS last FROM instances i JOIN events e ON e.instance = i.seq
        WHERE i.id = $1 AND i.identity = $2 AND e.execution = $3";
    let answers = connection
        .run(&[
            step!(HISTORY, instance.as_str(), identity.0, int(*number), int(after.0)),
            step!(last, instance.as_str(), identity.0, int(*number)),
        ])
        .await?;
    let mut page = HistoryPage::default();
    for row in answers.first().into_iter().flatten() {
        page.events.extend(events::unpack(row)?.into_iter().filter(|event| event.id > after));
    }
    page.events.truncate(PAGE);
    let end = page.events.last().map_or(after, |event| event.id);
    let last = answers.get(1).and_then(|rows| rows.first()).map(|row| natural(row, "last")).transpose()?;
    // Events that were written after the first statement also make a further page.
    page.more = last.is_some_and(|last| last > end.0) && !page.events.is_empty();
    Ok(page)
}

/// The tables that [`record_columns`] needs beside an instance `i`: its row `l` in `live`, and its first parked activity `p`.
macro_rules! record_tables {
    () => {
        "LEFT JOIN live l ON l.seq = i.seq
         LEFT JOIN LATERAL (SELECT a.rejected FROM activities a
             WHERE a.instance = i.seq AND a.parked AND a.rejected IS NOT NULL
             ORDER BY a.execution, a.call LIMIT 1) p ON true"
    };
}
pub(crate) use record_tables;

/// The columns of an instance `i`. An instance with a parked activity is shown as suspended.
macro_rules! record_columns {
    () => {
        "i.seq, i.id, i.identity, coalesce(l.execution, i.execution) AS execution, i.name,
         CASE WHEN l.seq IS NULL THEN i.version ELSE l.version END AS version,
         CASE WHEN i.status = 'running' AND p.rejected IS NOT NULL THEN 'suspended' ELSE i.status END AS status, i.labels, i.parent,
         i.parent_identity, i.parent_execution, i.parent_call, i.created_at,
         coalesce(l.updated_at, i.updated_at) AS updated_at, i.finished_at,
         coalesce(l.last_event, i.last_event) AS last_event, l.owner,
         coalesce(CASE WHEN l.suspended THEN coalesce(l.paused, l.rejected) END, p.rejected) AS suspension,
         coalesce(l.cause, i.cause) AS cause, l.waits, l.waits_since, l.waits_until"
    };
}
pub(crate) use record_columns;

/// Reads an instance. An unreadable field is left empty, and the record is marked as damaged, so that one such row does not
/// fail a whole list.
pub(crate) fn record(row: &Row) -> Result<InstanceRecord, Fault> {
    let mut damaged = None;
    let unnamed = || {
        let seq: i64 = row.try_get("seq")?;
        InstanceId::new(format!("damaged-row-{seq}")).map_err(|error| Fault::Unreadable(error.to_string()))
    };
    let instance = readable(&mut damaged, instance_id(row, "id")).map_or_else(unnamed, Ok)?;
    let (identity, number) = (identity(row, "identity")?, natural(row, "execution")?);
    Ok(InstanceRecord {
        execution: ExecutionId { instance, identity, number },
        name: row.try_get("name")?,
        version: readable(&mut damaged, version(row, "version")).flatten(),
        status: readable(&mut damaged, status(row, "status")).unwrap_or(InstanceStatus::Suspended),
        labels: readable(&mut damaged, text_map(row, "labels")).unwrap_or_default(),
        parent: readable(&mut damaged, parent(row)).flatten(),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        finished_at: optional_time(row, "finished_at")?,
        last_event: EventId(natural(row, "last_event")?),
        outcome: None,
        suspension: row.try_get("suspension")?,
        cause: row.try_get("cause")?,
        waits: waits(row)?,
        owner: epoch(row, "owner")?,
        unclaimed: None,
        damaged,
    })
}

/// Returns the value of a field, or adds the reason why it cannot be read to `damaged`.
fn readable<T>(damaged: &mut Option<String>, read: Result<T, Fault>) -> Option<T> {
    read.map_err(|fault| {
        let reason = fault.reason();
        *damaged = Some(damaged.take().map_or_else(|| reason.clone(), |before| format!("{before}; {reason}")));
    })
    .ok()
}

fn parent(row: &Row) -> Result<Option<Parent>, Fault> {
    if row.try_get::<_, Option<&str>>("parent")?.is_none() {
        return Ok(None);
    }
    let execution = ExecutionId {
        instance: instance_id(row, "parent")?,
        identity: identity(row, "parent_identity")?,
        number: natural(row, "parent_execution")?,
    };
    Ok(Some(Parent { execution, call: CallId(natural(row, "parent_call")?) }))
}

const INSTANCE: &str = concat!(
    "SELECT r.ready_at, ",
    record_columns!(),
    " FROM instances i ",
    record_tables!(),
    " LEFT JOIN ready r ON r.seq = i.seq WHERE i.id = $1"
);
/// The last row of events `e` of an instance `i` that has finished.
macro_rules! last_events {
    () => {
        "LEFT JOIN LATERAL (SELECT e.first, e.last, e.heads, e.body FROM events e
             WHERE i.finished_at IS NOT NULL AND e.instance = i.seq AND e.execution = i.execution AND e.last >= i.last_event
             ORDER BY e.last LIMIT 1) e ON true"
    };
}
const WATCHED: &str = concat!(
    "SELECT e.first, e.last, e.heads, e.body, ",
    record_columns!(),
    " FROM instances i ",
    record_tables!(),
    " ",
    last_events!(),
    " WHERE i.id = $1"
);
const ENDS: &str = concat!(
    "SELECT i.id, i.identity, i.status, i.last_event, e.first, e.last, e.heads, e.body
     FROM unnest($1::text[]) AS t (id) JOIN instances i ON i.id = t.id AND i.finished_at IS NOT NULL ",
    last_events!()
);
const OUTCOME: &str = concat!(
    "SELECT e.first, e.last, e.heads, e.body FROM instances i ",
    last_events!(),
    " WHERE i.id = $1 AND e.last > 0"
);
const WAITING: &str = "
    SELECT a.name, a.tag, a.ready_at FROM instances i JOIN activities a ON a.instance = i.seq
    WHERE i.id = $1 AND a.owner IS NULL AND NOT a.parked AND a.ready_at <= $2 ORDER BY a.execution, a.call";

/// Reads one instance. Work that is due but that no node can run is shown as unclaimed.
pub(crate) async fn instance(
    connection: &Connection,
    state: &State,
    id: &InstanceId,
) -> Result<Option<InstanceRecord>, Fault> {
    let now = state.latest();
    let steps = [
        step!(INSTANCE, id.as_str()),
        step!(OUTCOME, id.as_str()),
        step!(WAITING, id.as_str(), now.as_micros()),
        state.code.list(),
    ];
    let answers = connection.run(&steps).await?;
    let [found, outcome, waiting, members] = &answers[..] else {
        return Err(Fault::Unreadable("a read of an instance has other answers".to_owned()));
    };
    // Also for an unknown instance: the members are told of work.
    let members = state.code.members(members)?;
    let Some(row) = found.first() else { return Ok(None) };
    let mut record = record(row)?;
    if record.status.is_finished() {
        record.outcome = outcome.first().map(|row| self::outcome(row, record.last_event)).transpose()?.flatten();
    }
    let ready_at = row.try_get::<_, Option<i64>>("ready_at")?.map(|ready| read_ready(ready).since(now));
    record.unclaimed = unclaimed(&record, ready_at.filter(|since| *since <= now), waiting, &members, now)?;
    Ok(Some(record))
}

/// Returns the statement that reads one instance for a caller that waits for its end: without its unclaimed work.
pub(crate) fn watched_step(id: &InstanceId) -> Step<'_> {
    step!(WATCHED, id.as_str())
}

/// Reads the answer to [`watched_step`].
pub(crate) fn watched(rows: &[Row]) -> Result<Option<InstanceRecord>, Fault> {
    let Some(row) = rows.first() else { return Ok(None) };
    let mut record = record(row)?;
    if record.status.is_finished() {
        record.outcome = outcome(row, record.last_event)?;
    }
    Ok(Some(record))
}

/// Reads the ends of those of these instances that have finished, in one statement.
pub(crate) async fn ends(
    connection: &Connection,
    instances: &[InstanceId],
) -> Result<Vec<(InstanceId, Finished)>, Fault> {
    let ids: Vec<&str> = instances.iter().map(InstanceId::as_str).collect();
    let rows = connection.query(step!(ENDS, ids)).await?;
    let end = |row: &Row| {
        let outcome = outcome(row, EventId(natural(row, "last_event")?))?;
        let finished = Finished { identity: identity(row, "identity")?, status: status(row, "status")?, outcome };
        Ok((instance_id(row, "id")?, finished))
    };
    rows.iter().map(end).collect()
}

/// Returns the last event of an instance that has finished, from its last row of events. `None`: there is no such row.
fn outcome(row: &Row, last: EventId) -> Result<Option<EventRow>, Fault> {
    if row.try_get::<_, Option<i64>>("last")?.is_none() {
        return Ok(None);
    }
    Ok(events::unpack(row)?.into_iter().find(|event| event.id == last))
}

/// Finds the oldest work that no node can run. `ready_at`: the instance itself has been ready since then.
fn unclaimed(
    record: &InstanceRecord,
    ready_at: Option<Timestamp>,
    waiting: &[Row],
    members: &Members,
    now: Timestamp,
) -> Result<Option<Unclaimed>, Fault> {
    let version = record.version.as_ref().map(ToString::to_string);
    let itself = ready_at.filter(|_| !members.has_code(&record.name, version.as_deref())).map(|since| {
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        Unclaimed { what: format!("orchestration {}{version}", record.name), since }
    });
    let mut all: Vec<Unclaimed> = itself.into_iter().collect();
    for row in waiting {
        let (name, tag): (&str, Option<&str>) = (row.try_get("name")?, row.try_get("tag")?);
        if !members.serves(name, tag) {
            let tag = tag.map(|tag| format!(" with tag {tag}")).unwrap_or_default();
            let since = read_ready(row.try_get("ready_at")?).since(now);
            all.push(Unclaimed { what: format!("activity {name}{tag}"), since });
        }
    }
    Ok(all.into_iter().min_by_key(|unclaimed| unclaimed.since))
}
