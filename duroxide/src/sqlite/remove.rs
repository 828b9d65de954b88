//! Removing what has finished.

use rusqlite::params_from_iter;

use super::admin::condition;
use super::fault::Refusal;
use super::instances;
use super::rows::{instance_id, int, natural, status};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{ExecutionId, InstanceId};
use crate::provider::{DeleteError, Filter};

/// Removes a finished instance.
pub(super) fn delete(tx: &mut Tx<'_>, id: &InstanceId) -> Result<Result<(), DeleteError>, Refusal<rusqlite::Error>> {
    let find = "SELECT seq, status FROM duroxide_instances WHERE id = ?1";
    let found = tx.sql.row(find, [id.as_str()], |row| Ok((row.get(0)?, status(row, 1)?)))?;
    let Some((seq, status)) = found else { return Ok(Err(DeleteError::NotFound)) };
    if !status.is_finished() {
        return Ok(Err(DeleteError::Live(status)));
    }
    instances::remove(tx, id, seq)?;
    Ok(Ok(()))
}

/// What may be pruned.
pub(super) enum Prunable {
    Instance(InstanceId),
    Execution(ExecutionId),
}

/// Finds what may be pruned; the writer checks it again.
pub(super) fn prunable(sql: &Sql, filter: &Filter, before: Timestamp, limit: usize) -> rusqlite::Result<Vec<Prunable>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (condition, mut params) = condition(filter);
    params.extend([before.as_micros().into(), limit.into()]);
    let finished = format!(
        "SELECT i.id FROM duroxide_instances i WHERE {condition} AND i.finished_at < ? ORDER BY i.finished_at, i.id LIMIT ?"
    );
    let instances = sql.rows(&finished, params_from_iter(&params), |row| instance_id(row, 0))?;
    let continued = format!(
        "SELECT i.id, x.number FROM duroxide_instances i JOIN duroxide_executions x ON x.instance = i.seq
         WHERE {condition} AND x.continued_at < ? AND NOT EXISTS (
             SELECT 1 FROM duroxide_activities a WHERE a.instance = i.seq AND a.execution = x.number)
         ORDER BY x.continued_at, i.id, x.number LIMIT ?"
    );
    let read = |row: &rusqlite::Row<'_>| Ok(ExecutionId { instance: instance_id(row, 0)?, number: natural(row, 1)? });
    let executions = sql.rows(&continued, params_from_iter(&params), read)?;
    let executions = executions.into_iter().filter(|execution| !instances.contains(&execution.instance));
    let executions: Vec<_> = executions.map(Prunable::Execution).collect();
    Ok(instances.into_iter().map(Prunable::Instance).chain(executions).collect())
}

/// Removes it, if that is still right. Returns how many executions went.
pub(super) fn prune(tx: &mut Tx<'_>, what: &Prunable) -> Result<u64, Refusal<rusqlite::Error>> {
    match what {
        Prunable::Instance(id) => {
            let count = "SELECT 1 + (SELECT count(*) FROM duroxide_executions x WHERE x.instance = i.seq)
                FROM duroxide_instances i WHERE i.id = ?1";
            let executions = tx.sql.row(count, [id.as_str()], |row| natural(row, 0))?.unwrap_or(0);
            Ok(delete(tx, id)?.map_or(0, |()| executions))
        }
        Prunable::Execution(execution) => Ok(prune_execution(tx, execution)?),
    }
}

fn prune_execution(tx: &Tx<'_>, ExecutionId { instance, number }: &ExecutionId) -> rusqlite::Result<u64> {
    let find = "SELECT seq FROM duroxide_instances WHERE id = ?1";
    let Some(seq) = tx.sql.row(find, [instance.as_str()], |row| row.get::<_, i64>(0))? else { return Ok(0) };
    // A detached activity still needs the event that scheduled it.
    let remove = "DELETE FROM duroxide_executions WHERE instance = ?1 AND number = ?2 AND NOT EXISTS (
        SELECT 1 FROM duroxide_activities a WHERE a.instance = ?1 AND a.execution = ?2)";
    if tx.sql.run(remove, (seq, int(*number)))? == 0 {
        return Ok(0);
    }
    tx.sql.run("DELETE FROM duroxide_events WHERE instance = ?1 AND execution = ?2", (seq, int(*number)))?;
    let unused = "DELETE FROM duroxide_payloads WHERE instance = ?1 AND id NOT IN (
        SELECT payload_ref FROM duroxide_events WHERE instance = ?1 AND payload_ref IS NOT NULL
        UNION ALL SELECT payload_ref FROM duroxide_messages WHERE instance = ?1 AND payload_ref IS NOT NULL)";
    tx.sql.run(unused, [seq])?;
    Ok(1)
}
