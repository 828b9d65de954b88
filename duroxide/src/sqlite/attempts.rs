//! The rows of failed attempts.

use rusqlite::Row;

use super::columns::columns;
use super::rows::{epoch, int, natural, read_ready, time};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::id::{CallId, Epoch, InstanceId};
use crate::provider::{ActivityRecord, AttemptRecord, FailedAttempt, InstanceActivities, Lease, Tenure};

/// Records a failed attempt that will be repeated.
pub(super) fn record(
    sql: &Sql,
    instance: i64,
    lease: &Lease,
    tenure: &Tenure,
    next_at: Timestamp,
    failed: &FailedAttempt,
) -> rusqlite::Result<()> {
    let (execution, call) = (tenure.activity.execution.number, tenure.activity.call);
    let (attempt, node, failed) = (tenure.attempt, lease.epoch, failed.clone());
    insert(sql, instance, &AttemptRecord { execution, call, attempt, node, next_at, failed })?;
    if let Some(replaced) = FailedAttempt::replaced_by(tenure.attempt) {
        let delete = "DELETE FROM duroxide_attempts
            WHERE instance = ?1 AND execution = ?2 AND call = ?3 AND attempt = ?4";
        sql.run(delete, (instance, int(execution), int(call.0), replaced))?;
    }
    Ok(())
}

/// Inserts a failed attempt.
pub(super) fn insert(sql: &Sql, instance: i64, record: &AttemptRecord) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO duroxide_attempts
        (instance, execution, call, attempt, node, began, ended, next_at, error)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let AttemptRecord { execution, call, attempt, node, next_at, failed } = record;
    let FailedAttempt { began, ended, error } = failed;
    let (execution, call, node) = (int(*execution), int(call.0), int(node.0));
    let times = (began.as_micros(), ended.as_micros(), next_at.as_micros());
    sql.run(insert, (instance, execution, call, attempt, node, times.0, times.1, times.2, error.as_str())).map(drop)
}

/// Reads all kept failed attempts of an instance.
pub(super) fn all(sql: &Sql, instance: i64) -> rusqlite::Result<Vec<AttemptRecord>> {
    let find = concat!(
        "SELECT ",
        failed::list!(),
        " FROM duroxide_attempts f WHERE f.instance = ?1 ORDER BY f.execution, f.call, f.attempt"
    );
    sql.rows(find, [instance], attempt)
}

columns! {
    /// An activity `a` of an instance.
    mod open {
        EXECUTION = "a.execution",
        CALL = "a.call",
        NAME = "a.name",
        TAG = "a.tag",
        ATTEMPT = "a.attempt",
        VISIBLE_AT = "a.visible_at",
        OWNER = "a.owner",
        PARKED = "a.parked IS NOT NULL",
        CAUSE = "a.cause",
    }
}

columns! {
    /// A failed attempt `f`.
    mod failed {
        EXECUTION = "f.execution",
        CALL = "f.call",
        ATTEMPT = "f.attempt",
        NODE = "f.node",
        BEGAN = "f.began",
        ENDED = "f.ended",
        NEXT_AT = "f.next_at",
        ERROR = "f.error",
    }
}

/// Reads the activities of an instance.
pub(super) fn activities(sql: &Sql, id: &InstanceId) -> rusqlite::Result<Option<InstanceActivities>> {
    let find = "SELECT seq FROM duroxide_instances WHERE id = ?1";
    let Some(seq) = sql.row(find, [id.as_str()], |row| row.get::<_, i64>(0))? else { return Ok(None) };
    let find = concat!(
        "SELECT ",
        open::list!(),
        " FROM duroxide_activities a WHERE a.instance = ?1 ORDER BY a.execution, a.call LIMIT ?2"
    );
    let limit = int(InstanceActivities::LIMIT as u64);
    let open = sql.rows(find, (seq, limit), |row| {
        let owner = epoch(row, open::OWNER)?;
        let ready = read_ready(row.get(open::VISIBLE_AT)?);
        Ok(ActivityRecord {
            execution: natural(row, open::EXECUTION)?,
            call: CallId(natural(row, open::CALL)?),
            name: row.get(open::NAME)?,
            tag: row.get(open::TAG)?,
            attempt: row.get(open::ATTEMPT)?,
            ready: owner.is_none().then_some(ready),
            owner,
            parked: row.get(open::PARKED)?,
            cause: row.get(open::CAUSE)?,
        })
    })?;
    let find = concat!(
        "SELECT ",
        failed::list!(),
        " FROM duroxide_attempts f WHERE f.instance = ?1
         ORDER BY f.execution DESC, f.call DESC, f.attempt DESC LIMIT ?2"
    );
    let mut failed = sql.rows(find, (seq, limit), attempt)?;
    failed.reverse();
    Ok(Some(InstanceActivities { open, failed }))
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    Ok(AttemptRecord {
        execution: natural(row, failed::EXECUTION)?,
        call: CallId(natural(row, failed::CALL)?),
        attempt: row.get(failed::ATTEMPT)?,
        node: Epoch(natural(row, failed::NODE)?),
        next_at: time(row, failed::NEXT_AT)?,
        failed: FailedAttempt {
            began: time(row, failed::BEGAN)?,
            ended: time(row, failed::ENDED)?,
            error: row.get(failed::ERROR)?,
        },
    })
}
