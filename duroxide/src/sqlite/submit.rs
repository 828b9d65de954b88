//! Applies the submissions of clients.

use super::audit;
use super::dedup::DedupEntry;
use super::deliver::{self, Target};
use super::fault::Refusal;
use super::graft;
use super::instances;
use super::pauses;
use super::redact;
use super::rejections;
use super::rows::status_or_suspended;
use super::turns;
use super::tx::Tx;
use super::wake;
use crate::clock::Timestamp;
use crate::id::{CommitId, Identity, InstanceId, MessageId};
use crate::provider::{
    CommitError, IfExists, InstanceStatus, Placement, SendRequest, StartRequest, Submission, SubmitError, Submitted,
    Turn,
};

type Done = Result<Submitted, Refusal<SubmitError>>;

/// Applies one submission.
pub(super) fn submit(tx: &mut Tx<'_>, submission: &Submission) -> Done {
    match submission {
        Submission::Start(request) => start(tx, request),
        Submission::Send(request) => send(tx, request),
        Submission::Suspend(request) => {
            once(tx, request.id, &request.instance, request.time, |tx| pauses::suspend(tx, request).map(|()| true))
        }
        Submission::Wake(request) => {
            once(tx, request.id, &request.instance, request.time, |tx| wake::wake(tx, request))
        }
        Submission::Resume { instance, time } => resume(tx, instance, *time),
        Submission::Drop { instance, message } => drop_message(tx, instance, *message),
        Submission::Terminate { id, turn } => terminate(tx, *id, turn),
        Submission::Graft(graft) => graft::graft(tx, graft),
        Submission::Redact(request) => redact::redact(tx, request),
        Submission::Audited { entry, submission } => {
            let submitted = submit(tx, submission)?;
            if submitted.written {
                audit::record(tx, entry)?;
            }
            Ok(submitted)
        }
    }
}

fn start(tx: &mut Tx<'_>, request: &StartRequest) -> Done {
    let StartRequest { new, if_exists, lease, time, resent } = request;
    tx.observe_time(*time);
    match tx.dedup_entry(new.start.id.0)? {
        Some(DedupEntry::Refused(Some(found))) if *if_exists != IfExists::Attach => return Err(exists(found)),
        Some(DedupEntry::Refused(_)) => return unnumbered(tx, &new.instance, false),
        Some(DedupEntry::Done) => return unnumbered(tx, &new.instance, true),
        None => {}
    }
    let by = lease.map(|lease| lease.epoch);
    let identity = new.start.id.into();
    if let Some(placement) = instances::create(tx, new, by, *time)? {
        return Ok(submitted(placement, identity));
    }
    let there = Target::find(tx, &new.instance)?.ok_or(Refusal::Refused(SubmitError::Conflict))?;
    if there.identity == identity {
        return unnumbered(tx, &new.instance, true);
    }
    if *if_exists == IfExists::Replace && there.status.is_finished() {
        instances::remove(tx, &new.instance, there.seq)?;
    } else {
        if *resent {
            tx.record_refused(new.start.id.0, Some(there.status))?;
        }
        let attached = *if_exists == IfExists::Attach;
        return if attached { unnumbered(tx, &new.instance, false) } else { Err(exists(there.status)) };
    }
    let placement = instances::create(tx, new, by, *time)?.ok_or(Refusal::Undo(SubmitError::Conflict))?;
    Ok(submitted(placement, identity))
}

/// Returns the answer to a request that has stored no new message and so has no message number.
pub(super) fn unnumbered(tx: &Tx<'_>, id: &InstanceId, written: bool) -> Done {
    let target = Target::find(tx, id)?;
    let (owner, identity) = target.map_or((None, None), |target| (target.owner, Some(target.identity)));
    Ok(Submitted { owner, identity, number: None, written })
}

fn submitted(placement: Placement, identity: Identity) -> Submitted {
    let number = match placement {
        Placement::Owned { number, .. } => number,
        Placement::Queued | Placement::Refused => None,
    };
    Submitted { owner: placement.owner(), identity: Some(identity), number, written: true }
}

fn exists(status: InstanceStatus) -> Refusal<SubmitError> {
    Refusal::Refused(SubmitError::Exists(status))
}

fn send(tx: &mut Tx<'_>, request: &SendRequest) -> Done {
    let SendRequest { to, message, lease, time, resent } = request;
    tx.observe_time(*time);
    match tx.dedup_entry(message.id.0)? {
        Some(DedupEntry::Refused(found)) => return Err(not_live(found)),
        Some(DedupEntry::Done) => return unnumbered(tx, to, true),
        None => {}
    }
    let target = Target::find(tx, to)?;
    let found = target.as_ref().map(|target| target.status);
    let Some(target) = target.filter(|target| !target.status.is_finished()) else {
        if *resent {
            tx.record_refused(message.id.0, found)?;
        }
        return Err(not_live(found));
    };
    let (placement, is_new) = target.deliver_once(tx, message, *time, true)?;
    if placement == Placement::Refused {
        return Err(Refusal::Refused(SubmitError::Conflict));
    }
    target.leave_mail(tx, placement, lease.filter(|_| !resent).map(|lease| lease.epoch))?;
    let submitted = submitted(placement, target.identity);
    Ok(if is_new { submitted } else { Submitted { number: None, ..submitted } })
}

/// Writes a request unless it was carried out before, and records its id. `write` returns true if it has written anything.
fn once(
    tx: &mut Tx<'_>,
    id: CommitId,
    instance: &InstanceId,
    time: Timestamp,
    write: impl FnOnce(&mut Tx<'_>) -> Result<bool, Refusal<SubmitError>>,
) -> Done {
    tx.observe_time(time);
    let written = tx.is_recorded(id.0)? || write(tx)?;
    if written {
        tx.record_done(id.0)?;
    }
    unnumbered(tx, instance, written)
}

/// Returns the refusal of a message to an instance that does not exist or has finished.
fn not_live(found: Option<InstanceStatus>) -> Refusal<SubmitError> {
    Refusal::Refused(found.map_or(SubmitError::NotFound, SubmitError::Finished))
}

fn resume(tx: &mut Tx<'_>, instance: &InstanceId, time: Timestamp) -> Done {
    tx.observe_time(time);
    let target = Target::find(tx, instance)?.ok_or(Refusal::Refused(SubmitError::NotFound))?;
    let resumed = instances::resume(tx, target.seq, time)?;
    let unparked = rejections::resume_activities(tx, target.seq)?;
    let written = resumed || unparked;
    if written {
        let update = "UPDATE duroxide_instances SET updated_at = ?2 WHERE seq = ?1";
        tx.sql.run(update, (target.seq, time.as_micros()))?;
        tx.signals.work = true;
        tx.signals.changed(instance);
    }
    Ok(Submitted { owner: target.owner, identity: Some(target.identity), number: None, written })
}

fn drop_message(tx: &mut Tx<'_>, instance: &InstanceId, message: MessageId) -> Done {
    let target = Target::find(tx, instance)?.ok_or(Refusal::Refused(SubmitError::NotFound))?;
    let find = "SELECT lane <> 0 AND call IS NULL FROM duroxide_messages WHERE instance = ?1 AND id = ?2";
    let written = tx.sql.row(find, (target.seq, message.0.as_bytes()), |row| row.get(0))?.unwrap_or(false);
    if written {
        deliver::consume(tx, target.seq, message)?;
        instances::settle_ready(tx, target.seq)?;
    }
    Ok(Submitted { owner: target.owner, identity: Some(target.identity), number: None, written })
}

fn terminate(tx: &mut Tx<'_>, id: CommitId, turn: &Turn) -> Done {
    if tx.is_recorded(id.0)? {
        return unnumbered(tx, &turn.execution.instance, true);
    }
    let find = "SELECT status FROM duroxide_instances WHERE id = ?1";
    let there = tx.sql.row(find, [turn.execution.instance.as_str()], |row| Ok(status_or_suspended(row, 0)))?;
    let status = there.ok_or(Refusal::Refused(SubmitError::NotFound))?;
    if status.is_finished() {
        return Err(Refusal::Refused(SubmitError::Finished(status)));
    }
    let translate = |error| match error {
        CommitError::Failed(reason) => SubmitError::Failed(reason),
        CommitError::Fenced | CommitError::Conflict | CommitError::Locked => SubmitError::Conflict,
    };
    match turns::turn(tx, id, None, turn) {
        Ok(_) => {
            tx.record_done(id.0)?;
            unnumbered(tx, &turn.execution.instance, true)
        }
        Err(Refusal::Refused(error)) => Err(Refusal::Refused(translate(error))),
        Err(Refusal::Undo(error)) => Err(Refusal::Undo(translate(error))),
        Err(Refusal::Storage(error)) => Err(Refusal::Storage(error)),
    }
}
