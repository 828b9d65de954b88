//! Deleting finished instances, and pruning.

use rusqlite::Row;

use super::admin::unless_interrupted;
use super::admin_reader::Deadline;
use super::columns::columns;
use super::fault::Refusal;
use super::instances;
use super::removals::Removal;
use super::rows::{instance_id, int, natural, optional, status_or_suspended, uuid};
use super::search::{CLOCKS, Order, Query, Search, arrived_by, literals};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{ExecutionId, Identity, InstanceId};
use crate::provider::{DeleteError, Filter, InstanceStatus};

columns! {
    mod deleted { SEQ = "seq", STATUS = "status" }
}

/// Removes a finished instance.
pub(super) fn delete(tx: &mut Tx<'_>, id: &InstanceId) -> Result<Result<(), DeleteError>, Refusal<rusqlite::Error>> {
    let find = concat!("SELECT ", deleted::list!(), " FROM duroxide_instances WHERE id = ?1");
    let read = |row: &Row<'_>| Ok((row.get(deleted::SEQ)?, status_or_suspended(row, deleted::STATUS)));
    let found = tx.sql.row(find, [id.as_str()], read)?;
    let Some((seq, status)) = found else { return Ok(Err(DeleteError::NotFound)) };
    if !status.is_finished() {
        return Ok(Err(DeleteError::Live(status)));
    }
    instances::remove(tx, id, seq)?;
    Ok(Ok(()))
}

/// An entry that may be pruned.
pub(super) enum Prunable {
    Instance(InstanceId),
    Execution(ExecutionId),
}

/// Finds up to `limit` entries that may be pruned, oldest first, of instances with an arrival number above `after`; the
/// writer checks them again. Also returns the number after which the next search begins, unless this search has covered
/// all instances.
///
/// An instance that finished before a time also arrived before it. Later arrivals are not searched, so that a prune
/// without due entries reads almost nothing.
pub(super) fn prunable(
    sql: &Sql,
    filter: &Filter,
    before: Timestamp,
    after: i64,
    limit: usize,
    deadline: Deadline,
) -> rusqlite::Result<(Vec<Prunable>, Option<i64>)> {
    let limit = limit.max(1);
    let range = after.saturating_add(1)..arrived_by(sql, before)?;
    let mut search = Search::new(sql, filter, Order::OldestFirst, range)?;
    let find = "SELECT EXISTS (SELECT 1 FROM duroxide_executions)";
    let has_continued = sql.row(find, [], |row| row.get::<_, bool>(0))?.unwrap_or(false);
    let mut due: Vec<Entry> = Vec::new();
    let mut next = None;
    loop {
        // Read one more than wanted, to see if there is another batch.
        let wanted = (limit - due.len()).saturating_add(1);
        let mut queries = vec![finished(before, wanted)];
        if has_continued {
            queries.push(continued(before, wanted));
        }
        let Some(found) = unless_interrupted(search.next(&queries, prunable_entry))? else {
            next = Some(search.position());
            break;
        };
        let Some((window, mut found)) = found else { break };
        found.sort_unstable();
        due.append(&mut found);
        if due.len() > limit {
            // The next search begins with the instance of the first remaining entry.
            next = due.get(limit).map(|entry| entry.seq - 1);
            due.truncate(limit);
            break;
        }
        if !window.is_last && (due.len() == limit || deadline.has_passed()) {
            next = Some(search.position());
            break;
        }
    }
    Ok((due.into_iter().filter_map(Entry::prunable).collect(), next))
}

/// A row of a search: an instance, or one of its executions if `number` is set. Entries are ordered by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    seq: i64,
    number: Option<u64>,
    id: Option<InstanceId>,
    identity: Identity,
}

impl Entry {
    /// Returns the entry to prune. An instance with an unreadable id cannot be deleted by its id.
    fn prunable(self) -> Option<Prunable> {
        let (instance, identity) = (self.id?, self.identity);
        Some(match self.number {
            None => Prunable::Instance(instance),
            Some(number) => Prunable::Execution(ExecutionId { instance, identity, number }),
        })
    }
}

columns! {
    /// An instance `i`. The number of its execution follows, or NULL for the whole instance.
    mod entry { SEQ = "i.seq", ID = "i.id", START_ID = "i.start_id" }
}

fn prunable_entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: row.get(entry::SEQ)?,
        number: optional(row, entry::COUNT)?,
        id: instance_id(row, entry::ID).ok(),
        identity: Identity(uuid(row, entry::START_ID)?),
    })
}

/// Selects instances that finished before a time. An instance with an unreadable status is not selected.
fn finished(before: Timestamp, limit: usize) -> Query {
    let finished: Vec<_> = InstanceStatus::ALL.into_iter().filter(|status| status.is_finished()).collect();
    Query {
        columns: concat!(entry::list!(), ", NULL").into(),
        joined: "".into(),
        joined_params: Vec::new(),
        condition: format!("AND i.finished_at < ? AND i.status IN ({})", literals(&finished)),
        params: vec![before.as_micros().into()],
        group_by: None,
        then_by: "",
        limit,
    }
}

/// Selects executions that were continued before a time, of the other instances. The times of continuation rise with
/// the number of the execution, so the scan of an instance ends at the first execution that is not due; it is searched
/// only among as many executions as are selected at most. The slack allows for clocks that differ.
fn continued(before: Timestamp, limit: usize) -> Query {
    let (before, surely_later) = (before.as_micros(), before.as_micros().saturating_add(2 * CLOCKS));
    Query {
        columns: concat!(entry::list!(), ", x.number").into(),
        joined: "CROSS JOIN duroxide_executions x ON x.instance = i.seq AND x.number < coalesce(
            (SELECT y.number FROM (
                SELECT z.number, z.continued_at FROM duroxide_executions z WHERE z.instance = i.seq
                ORDER BY z.number LIMIT ?) y
             WHERE y.continued_at >= ? ORDER BY y.number LIMIT 1), 9223372036854775807)"
            .into(),
        // A detached activity still needs the event that scheduled it.
        condition: "AND (i.finished_at IS NULL OR i.finished_at >= ?) AND x.continued_at < ? AND NOT EXISTS (
            SELECT 1 FROM duroxide_activities a WHERE a.instance = i.seq AND a.execution = x.number)"
            .to_owned(),
        params: vec![before.into(), before.into()],
        joined_params: vec![i64::try_from(limit).unwrap_or(i64::MAX).into(), surely_later.into()],
        group_by: None,
        then_by: ", x.number",
        limit,
    }
}

/// Removes an entry if it may still be pruned. Returns the number of removed executions.
pub(super) fn prune(tx: &mut Tx<'_>, entry: &Prunable) -> Result<u64, Refusal<rusqlite::Error>> {
    match entry {
        Prunable::Instance(id) => {
            let count = "SELECT 1 + (SELECT count(*) FROM duroxide_executions x WHERE x.instance = i.seq)
                FROM duroxide_instances i WHERE i.id = ?1";
            let executions = tx.sql.row(count, [id.as_str()], |row| natural(row, 0))?.unwrap_or(0);
            Ok(delete(tx, id)?.map_or(0, |()| executions))
        }
        Prunable::Execution(execution) => Ok(prune_execution(tx, execution)?),
    }
}

fn prune_execution(tx: &mut Tx<'_>, execution: &ExecutionId) -> rusqlite::Result<u64> {
    let ExecutionId { instance, identity, number } = execution;
    let find = "SELECT seq FROM duroxide_instances WHERE id = ?1 AND start_id = ?2";
    let found = tx.sql.row(find, (instance.as_str(), identity.0.as_bytes()), |row| row.get::<_, i64>(0))?;
    let Some(seq) = found else { return Ok(0) };
    // A detached activity still needs the event that scheduled it.
    let remove = "DELETE FROM duroxide_executions WHERE instance = ?1 AND number = ?2 AND NOT EXISTS (
        SELECT 1 FROM duroxide_activities a WHERE a.instance = ?1 AND a.execution = ?2)";
    if tx.sql.run(remove, (seq, int(*number)))? == 0 {
        return Ok(0);
    }
    Removal { instance: seq, execution: int(*number) }.begin(tx)?;
    Ok(1)
}
