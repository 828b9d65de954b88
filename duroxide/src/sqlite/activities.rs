//! Activities: what becomes of an attempt, giving back, taking away.

use rusqlite::params;

use super::deliver::{Target, ready_by_messages};
use super::fault::Refusal;
use super::instances;
use super::rows::{epoch, int, stored_ready};
use super::turns;
use super::tx::Tx;
use crate::id::{ActivityId, CallId, CommitId, Epoch, InstanceId};
use crate::provider::{Commit, CommitError, Committed, Lease, MessageRow, Placement, Ready, Write};

/// An activity by the number of its instance, its execution and its call.
pub(super) type Key = (i64, u64, CallId);

type Done = Result<Committed, Refusal<CommitError>>;

/// Writes one entry of a node.
pub(super) fn commit(tx: &mut Tx<'_>, lease: &Lease, commit: &Commit) -> Done {
    let id = commit.id;
    match &commit.write {
        Write::Turn(turn) => turns::turn(tx, id, Some(lease), turn),
        Write::Outcome { activity, attempt, message } => outcome(tx, id, lease, activity, *attempt, message),
        Write::Retry { activity, attempt, visible_at } => {
            let set = "UPDATE duroxide_activities SET owner = NULL, alone = 0, last_commit = ?1, attempt = attempt + 1,
                    visible_at = ?7, crashes = 0, suspect = 0
                WHERE instance = ?2 AND execution = ?3 AND call = ?4 AND owner = ?5 AND attempt = ?6
                    AND last_commit IS NOT ?1";
            give_back(tx, id, lease, activity, set, Some(*attempt), stored_ready(Ready::At(*visible_at)).into())
        }
        Write::Park { activity, reason } => once(tx, id, |tx| {
            let set = "UPDATE duroxide_activities SET owner = NULL, alone = 0, last_commit = ?1, parked = ?7
                WHERE instance = ?2 AND execution = ?3 AND call = ?4 AND owner = ?5 AND ?6 IS NULL
                    AND last_commit IS NOT ?1";
            let done = give_back(tx, id, lease, activity, set, None, reason.clone().into())?;
            if let Some(target) = Target::find(tx, &activity.execution.instance)? {
                instances::tried(tx, target.seq, Some(lease))?;
            }
            tx.signals.changed(&activity.execution.instance);
            Ok(done)
        }),
        Write::ReleaseActivity { activity } => once(tx, id, |tx| {
            let set = "UPDATE duroxide_activities SET owner = NULL, alone = 0, last_commit = ?1
                WHERE instance = ?2 AND execution = ?3 AND call = ?4 AND owner = ?5 AND ?6 IS NULL AND ?7 IS NULL
                    AND last_commit IS NOT ?1";
            give_back(tx, id, lease, activity, set, None, rusqlite::types::Value::Null)
        }),
        Write::ReleaseInstance { instance } => once(tx, id, |tx| release_instance(tx, id, lease, instance)),
    }
}

/// What does not show in a number that only grows, such as the attempt, is remembered by itself: it may be taken again, and
/// go on, before the commit is sent once more.
fn once(tx: &mut Tx<'_>, id: CommitId, write: impl FnOnce(&mut Tx<'_>) -> Done) -> Done {
    if tx.is_remembered(id.0)? {
        return Ok(repeated());
    }
    let done = write(tx)?;
    tx.remember(id.0)?;
    Ok(done)
}

fn repeated() -> Committed {
    Committed { repeated: true, ..Committed::default() }
}

fn outcome(
    tx: &mut Tx<'_>,
    id: CommitId,
    lease: &Lease,
    activity: &ActivityId,
    attempt: u32,
    message: &MessageRow,
) -> Done {
    if tx.is_remembered(id.0)? {
        return Ok(repeated());
    }
    let target = Target::find(tx, &activity.execution.instance)?.ok_or(Refusal::Refused(CommitError::Fenced))?;
    let key = (target.seq, activity.execution.number, activity.call);
    if !remove_owned(tx, key, attempt, Some(lease))? {
        return Err(Refusal::Refused(why_not(tx, key, lease)?));
    }
    tx.remember(id.0)?;
    let latest = tx.latest();
    let placement = target.deliver(tx, message, latest, false)?;
    tx.signals.work |= matches!(placement, Placement::Owned(owner) if owner != lease.epoch);
    Ok(Committed { messages: vec![placement], ..Committed::default() })
}

/// Gives an activity back with `set`, whose parameters are the commit, the key, the epoch, the attempt and one more.
fn give_back(
    tx: &mut Tx<'_>,
    id: CommitId,
    lease: &Lease,
    activity: &ActivityId,
    set: &str,
    attempt: Option<u32>,
    value: rusqlite::types::Value,
) -> Done {
    let find = "SELECT seq FROM duroxide_instances WHERE id = ?1";
    let seq = tx.sql.row(find, [activity.execution.instance.as_str()], |row| row.get(0))?;
    let seq: i64 = seq.ok_or(Refusal::Refused(CommitError::Fenced))?;
    let (execution, call) = (int(activity.execution.number), int(activity.call.0));
    let params = params![id.0.as_bytes(), seq, execution, call, int(lease.epoch.0), attempt, value];
    if tx.sql.run(set, params)? > 0 {
        tx.signals.work = true;
        return Ok(Committed::default());
    }
    let done = "SELECT last_commit IS ?1 FROM duroxide_activities WHERE instance = ?2 AND execution = ?3 AND call = ?4";
    if tx.sql.row(done, (id.0.as_bytes(), seq, execution, call), |row| row.get(0))? == Some(true) {
        return Ok(repeated());
    }
    let key = (seq, activity.execution.number, activity.call);
    Err(Refusal::Refused(why_not(tx, key, lease)?))
}

/// Whether the lease owns the activity, and only the attempt is another, or does not own it.
fn why_not(tx: &Tx<'_>, (seq, execution, call): Key, lease: &Lease) -> rusqlite::Result<CommitError> {
    let find = "SELECT owner FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND call = ?3";
    let owner = tx.sql.row(find, (seq, int(execution), int(call.0)), |row| epoch(row, 0))?.flatten();
    Ok(if owner == Some(lease.epoch) { CommitError::Conflict } else { CommitError::Fenced })
}

fn release_instance(tx: &mut Tx<'_>, id: CommitId, lease: &Lease, instance: &InstanceId) -> Done {
    let update = concat!(
        "UPDATE duroxide_instances SET owner = NULL, alone = 0, last_commit = ?1, ready_at = ",
        ready_by_messages!("duroxide_instances.seq"),
        " WHERE id = ?2 AND owner = ?3 AND last_commit IS NOT ?1 RETURNING ready_at"
    );
    let params = (id.0.as_bytes(), instance.as_str(), int(lease.epoch.0));
    let released = tx.sql.row(update, params, |row| row.get::<_, Option<i64>>(0))?;
    if let Some(ready_at) = released {
        tx.signals.work |= ready_at.is_some();
        return Ok(Committed::default());
    }
    let done = "SELECT last_commit IS ?1 FROM duroxide_instances WHERE id = ?2";
    match tx.sql.row(done, (id.0.as_bytes(), instance.as_str()), |row| row.get(0))? {
        Some(true) => Ok(repeated()),
        _ => Err(Refusal::Refused(CommitError::Fenced)),
    }
}

/// Removes an activity that has come to its end, if the lease owns it; from outside, whoever owns it.
pub(super) fn remove_owned(
    tx: &Tx<'_>,
    (seq, execution, call): Key,
    attempt: u32,
    lease: Option<&Lease>,
) -> rusqlite::Result<bool> {
    let delete = "DELETE FROM duroxide_activities
        WHERE instance = ?1 AND execution = ?2 AND call = ?3 AND attempt = ?4 AND (?5 IS NULL OR owner = ?5)";
    let owner = lease.map(|lease| int(lease.epoch.0));
    Ok(tx.sql.run(delete, (seq, int(execution), int(call.0), attempt, owner))? > 0)
}

/// Removes an activity that nobody waits for any more, and tells the node that runs it.
pub(super) fn cancel(tx: &Tx<'_>, id: &InstanceId, (seq, execution, call): Key) -> rusqlite::Result<()> {
    let delete = "DELETE FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND call = ?3 RETURNING owner";
    let owner = tx.sql.row(delete, (seq, int(execution), int(call.0)), |row| epoch(row, 0))?.flatten();
    owner.map_or(Ok(()), |owner| notify(tx, owner, id, int(execution), int(call.0)))
}

/// Removes the activities of an execution that has ended, except detached ones; or all of an instance.
pub(super) fn sweep(tx: &Tx<'_>, id: &InstanceId, seq: i64, execution: Option<u64>) -> rusqlite::Result<()> {
    let find = "SELECT execution, call, owner FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND detached = 0";
    let find_all = "SELECT execution, call, owner FROM duroxide_activities WHERE instance = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, epoch(row, 2)?));
    let left: Vec<(i64, i64, Option<Epoch>)> = match execution {
        Some(number) => tx.sql.rows(find, (seq, int(number)), read)?,
        None => tx.sql.rows(find_all, [seq], read)?,
    };
    for (execution, call, owner) in left {
        let delete = "DELETE FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND call = ?3";
        tx.sql.run(delete, (seq, execution, call))?;
        if let Some(owner) = owner {
            notify(tx, owner, id, execution, call)?;
        }
    }
    Ok(())
}

fn notify(tx: &Tx<'_>, owner: Epoch, id: &InstanceId, execution: i64, call: i64) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO duroxide_notices (epoch, instance, execution, call) VALUES (?1, ?2, ?3, ?4)";
    tx.sql.run(insert, (int(owner.0), id.as_str(), execution, call)).map(drop)
}
