//! The rows of failed attempts.

use duroxide::Timestamp;
use duroxide::id::{CallId, Epoch, InstanceId};
use duroxide::provider::{ActivityRecord, AttemptRecord, FailedAttempt, InstanceActivities};
use tokio_postgres::Row;

use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{epoch, int, natural, read_ready};

pub(crate) const ADD: &str = "
    INSERT INTO attempts (instance, execution, call, attempt, node, began, ended, next_at, error)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::text[]) ON CONFLICT DO NOTHING";
pub(crate) const REMOVE: &str = "
    DELETE FROM attempts f USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
        AS t (instance, execution, call, attempt)
    WHERE f.instance = t.instance AND f.execution = t.execution AND f.call = t.call AND f.attempt = t.attempt";

/// Reads the activities of an instance.
pub(crate) async fn activities(connection: &Connection, id: &InstanceId) -> Result<Option<InstanceActivities>, Fault> {
    let found = connection.query(step!("SELECT seq FROM instances WHERE id = $1", id.as_str())).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let seq: i64 = row.try_get("seq")?;
    let limit = int(InstanceActivities::LIMIT as u64);
    let open = "SELECT execution, call, name, tag, attempt, ready_at, owner, parked, cause FROM activities
        WHERE instance = $1 ORDER BY execution, call LIMIT $2";
    let open = connection.query(step!(open, seq, limit)).await?;
    let failed = "SELECT execution, call, attempt, node, began, ended, next_at, error FROM attempts
        WHERE instance = $1 ORDER BY execution DESC, call DESC, attempt DESC LIMIT $2";
    let failed = connection.query(step!(failed, seq, limit)).await?;
    Ok(Some(InstanceActivities {
        open: open.iter().map(activity).collect::<Result<_, _>>()?,
        failed: failed.iter().rev().map(attempt).collect::<Result<_, _>>()?,
    }))
}

/// Reads the kept failed attempts of an execution.
pub(crate) async fn of_execution(connection: &Connection, seq: i64, number: i64) -> Result<Vec<AttemptRecord>, Fault> {
    let find = "SELECT execution, call, attempt, node, began, ended, next_at, error FROM attempts
        WHERE instance = $1 AND execution = $2";
    connection.query(step!(find, seq, number)).await?.iter().map(attempt).collect()
}

pub(crate) fn number(row: &Row, column: &str) -> Result<u32, Fault> {
    let number = natural(row, column)?;
    u32::try_from(number).map_err(|_| Fault::Unreadable(format!("{column} {number} is too large")))
}

fn activity(row: &Row) -> Result<ActivityRecord, Fault> {
    let (owner, ready) = (epoch(row, "owner")?, read_ready(row.try_get("ready_at")?));
    Ok(ActivityRecord {
        execution: natural(row, "execution")?,
        call: CallId(natural(row, "call")?),
        name: row.try_get("name")?,
        tag: row.try_get("tag")?,
        attempt: number(row, "attempt")?,
        ready: owner.is_none().then_some(ready),
        owner,
        parked: row.try_get("parked")?,
        cause: row.try_get("cause")?,
    })
}

pub(crate) fn attempt(row: &Row) -> Result<AttemptRecord, Fault> {
    let time = |column: &str| Ok::<_, Fault>(Timestamp::from_micros(row.try_get(column)?));
    Ok(AttemptRecord {
        execution: natural(row, "execution")?,
        call: CallId(natural(row, "call")?),
        attempt: number(row, "attempt")?,
        node: Epoch(natural(row, "node")?),
        next_at: time("next_at")?,
        failed: FailedAttempt { began: time("began")?, ended: time("ended")?, error: row.try_get("error")? },
    })
}
