//! The rows of activities: outcomes, retries, releases and removals.

use rusqlite::{Row, named_params};

use super::attempts;
use super::deliver::Target;
use super::fault::Refusal;
use super::rejections;
use super::rows::{ActivityKey, activity_key, epoch, int, stored_ready};
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{ActivityId, CallId, Epoch, Identity, InstanceId};
use crate::provider::{CommitError, Committed, FailedAttempt, Lease, MessageRow, Placement, Ready, Tenure};

type Done = Result<Committed, Refusal<CommitError>>;

/// Appends the condition that selects the activity of a tenure.
macro_rules! tenure {
    ($statement:literal) => {
        concat!(
            $statement,
            " WHERE instance = :instance AND execution = :execution AND call = :call AND owner = :owner",
            " AND attempt = :attempt AND claim = :claim"
        )
    };
}

/// Removes an activity whose attempt has ended, and delivers the outcome to its instance.
pub(super) fn outcome(tx: &mut Tx<'_>, lease: &Lease, tenure: &Tenure, message: &MessageRow) -> Done {
    let placement = deliver_outcome(tx, lease, tenure, message, Some(lease.epoch))?;
    Ok(Committed { messages: vec![placement], ..Committed::default() })
}

/// As [`outcome`], for an outcome that the node does not forward: the owner of the instance gets mail.
pub(super) fn outcome_with_mail(
    tx: &mut Tx<'_>,
    lease: &Lease,
    tenure: &Tenure,
    message: &MessageRow,
) -> Result<(), Refusal<CommitError>> {
    deliver_outcome(tx, lease, tenure, message, None).map(drop)
}

fn deliver_outcome(
    tx: &mut Tx<'_>,
    lease: &Lease,
    tenure: &Tenure,
    message: &MessageRow,
    forwarded_by: Option<Epoch>,
) -> Result<Placement, Refusal<CommitError>> {
    let target = target(tx, tenure)?;
    let delete = tenure!("DELETE FROM duroxide_activities");
    if !change(tx, target.seq, lease, tenure, delete, &[])? {
        return Err(Refusal::Refused(tenure_error(tx, target.seq, lease, tenure)?));
    }
    let latest = tx.latest_time();
    let placement = target.deliver(tx, message, latest, false)?;
    target.leave_mail(tx, placement, forwarded_by)?;
    Ok(placement)
}

/// Returns an activity to the queue for its next attempt, and records the failed one.
pub(super) fn retry(
    tx: &mut Tx<'_>,
    lease: &Lease,
    tenure: &Tenure,
    visible_at: Timestamp,
    (failed, cause): (&FailedAttempt, Option<&str>),
) -> Done {
    let update = tenure!(
        "UPDATE duroxide_activities SET owner = NULL, alone = 0, crashes = 0, suspect = 0, attempt = attempt + 1,
         visible_at = :ready, cause = :cause"
    );
    let ready = stored_ready(Ready::At(visible_at));
    let target = requeue(tx, lease, tenure, update, &[(":ready", &ready), (":cause", &cause)])?;
    attempts::record(&tx.sql, target.seq, lease, tenure, visible_at, failed)?;
    Ok(Committed::default())
}

/// Parks an activity that the build of the lease rejects, or leaves it to the other builds.
pub(super) fn park(tx: &mut Tx<'_>, lease: &Lease, tenure: &Tenure, (reason, cause): (&str, Option<&str>)) -> Done {
    let update = tenure!(
        "UPDATE duroxide_activities SET owner = NULL, alone = 0, crashes = 0, suspect = 0, parked = :reason,
         rejected = :reason, cause = :cause, other_cause = cause"
    );
    let target = requeue(tx, lease, tenure, update, &[(":reason", &reason), (":cause", &cause)])?;
    rejections::reject_activity(tx, target.seq, lease, tenure)?;
    tx.signals.changed(&tenure.activity.execution.instance);
    Ok(Committed::default())
}

/// Returns an activity to the queue whose attempt has not begun.
pub(super) fn release(tx: &mut Tx<'_>, lease: &Lease, tenure: &Tenure) -> Done {
    let update = tenure!("UPDATE duroxide_activities SET owner = NULL, alone = 0");
    requeue(tx, lease, tenure, update, &[]).map(|_| Committed::default())
}

type Param<'a> = (&'static str, &'a dyn rusqlite::ToSql);

fn requeue(
    tx: &mut Tx<'_>,
    lease: &Lease,
    tenure: &Tenure,
    update: &str,
    more: &[Param<'_>],
) -> Result<Target, Refusal<CommitError>> {
    let target = target(tx, tenure)?;
    if !change(tx, target.seq, lease, tenure, update, more)? {
        return Err(Refusal::Refused(tenure_error(tx, target.seq, lease, tenure)?));
    }
    tx.signals.work = true;
    Ok(target)
}

/// Finds the instance of a tenure.
fn target(tx: &Tx<'_>, tenure: &Tenure) -> Result<Target, Refusal<CommitError>> {
    let execution = &tenure.activity.execution;
    let target = Target::find(tx, &execution.instance)?.filter(|target| target.identity == execution.identity);
    target.ok_or(Refusal::Refused(CommitError::Fenced))
}

/// Runs a statement on the activity of a tenure, if the lease still owns it under that tenure. Returns true if it does.
fn change(
    tx: &Tx<'_>,
    instance: i64,
    lease: &Lease,
    tenure: &Tenure,
    statement: &str,
    more: &[Param<'_>],
) -> rusqlite::Result<bool> {
    let (_, execution, call) = key(instance, tenure);
    let (owner, claim) = (int(lease.epoch.0), int(tenure.claim));
    let named = named_params! {
        ":instance": instance, ":execution": execution, ":call": call, ":owner": owner, ":attempt": tenure.attempt,
        ":claim": claim,
    };
    let params: Vec<Param<'_>> = named.iter().chain(more).copied().collect();
    Ok(tx.sql.run(statement, &*params)? > 0)
}

/// Returns the key of the activity of a tenure.
pub(super) fn key(instance: i64, tenure: &Tenure) -> ActivityKey {
    let ActivityId { execution, call } = &tenure.activity;
    (instance, int(execution.number), int(call.0))
}

/// Returns the reason why a tenure does not hold: the lease owns the activity under another tenure, or does not own it.
fn tenure_error(tx: &Tx<'_>, instance: i64, lease: &Lease, tenure: &Tenure) -> rusqlite::Result<CommitError> {
    let find = "SELECT owner FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND call = ?3";
    let owner = tx.sql.row(find, key(instance, tenure), |row| epoch(row, 0))?.flatten();
    Ok(if owner == Some(lease.epoch) { CommitError::Conflict } else { CommitError::Fenced })
}

/// Removes an activity whose outcome a turn has consumed, if the lease owns it. A turn without a lease removes it
/// regardless of its owner.
pub(super) fn remove_owned(
    tx: &Tx<'_>,
    (seq, execution, call): ActivityKey,
    attempt: u32,
    lease: Option<&Lease>,
) -> rusqlite::Result<bool> {
    let delete =
        "DELETE FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND call = ?3 AND attempt = ?4";
    let delete_owned = "DELETE FROM duroxide_activities
        WHERE instance = ?1 AND execution = ?2 AND call = ?3 AND attempt = ?4 AND owner = ?5";
    let removed = match lease {
        None => tx.sql.run(delete, (seq, execution, call, attempt))?,
        Some(lease) => tx.sql.run(delete_owned, (seq, execution, call, attempt, int(lease.epoch.0)))?,
    };
    Ok(removed > 0)
}

/// The instance whose activities are removed.
pub(super) struct Leaving<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) identity: Identity,
    pub(super) seq: i64,
    /// The epoch that removes them. Its own node cancels their attempts without a stored cancellation.
    pub(super) by: Option<Epoch>,
}

/// Removes an activity whose outcome is no longer wanted, and records a cancellation for another node that runs it.
pub(super) fn cancel(tx: &mut Tx<'_>, of: &Leaving<'_>, execution: u64, call: CallId) -> rusqlite::Result<()> {
    let delete = "DELETE FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND call = ?3 RETURNING owner";
    let key = (of.seq, int(execution), int(call.0));
    let owner = tx.sql.row(delete, key, |row| epoch(row, 0))?.flatten();
    record_cancellation(tx, of, owner, key)
}

/// Removes the activities of an ended execution, except detached ones; or, without an execution, all activities of the
/// instance.
pub(super) fn remove_all(tx: &mut Tx<'_>, of: &Leaving<'_>, execution: Option<u64>) -> rusqlite::Result<()> {
    macro_rules! find {
        ($condition:literal) => {
            concat!("SELECT ", activity_key::list!(), ", a.owner FROM duroxide_activities a WHERE ", $condition)
        };
    }
    let read = |row: &Row<'_>| Ok((activity_key(row)?, epoch(row, activity_key::COUNT)?));
    let left = match execution {
        Some(number) => {
            let find = find!("a.instance = ?1 AND a.execution = ?2 AND a.detached = 0");
            tx.sql.rows(find, (of.seq, int(number)), read)?
        }
        None => tx.sql.rows(find!("a.instance = ?1"), [of.seq], read)?,
    };
    for (key, owner) in left {
        tx.sql.run("DELETE FROM duroxide_activities WHERE instance = ?1 AND execution = ?2 AND call = ?3", key)?;
        record_cancellation(tx, of, owner, key)?;
    }
    Ok(())
}

/// Records the cancellation of an activity for the node that runs it, unless that is the node that removes it.
fn record_cancellation(
    tx: &mut Tx<'_>,
    of: &Leaving<'_>,
    owner: Option<Epoch>,
    (_, execution, call): ActivityKey,
) -> rusqlite::Result<()> {
    let Some(owner) = owner.filter(|owner| Some(*owner) != of.by) else { return Ok(()) };
    tx.signals.work = true;
    let insert = "INSERT OR IGNORE INTO duroxide_cancellations (epoch, instance, identity, execution, call)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    let params = (int(owner.0), of.id.as_str(), of.identity.0.as_bytes(), execution, call);
    tx.sql.run(insert, params).map(drop)
}
