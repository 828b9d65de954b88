//! What clients ask for.

use super::deliver::Target;
use super::fault::Refusal;
use super::instances;
use super::rows::{epoch, natural, status};
use super::turns;
use super::tx::{Remembered, Tx};
use crate::clock::Timestamp;
use crate::id::{CommitId, Epoch, InstanceId};
use crate::provider::{
    CommitError, IfExists, InstanceStatus, Lease, MessageRow, NewInstance, Placement, Submission, SubmitError,
    Submitted, Turn,
};

type Done = Result<Submitted, Refusal<SubmitError>>;

/// Writes one entry of a client.
pub(super) fn submit(tx: &mut Tx<'_>, submission: &Submission) -> Done {
    match submission {
        Submission::Start { new, if_exists, lease, time, again } => {
            tx.saw(*time);
            start(tx, new, *if_exists, lease.as_ref(), *time, *again)
        }
        Submission::Send { to, message, lease, time, again } => {
            tx.saw(*time);
            send(tx, to, message, lease.as_ref(), *time, *again)
        }
        Submission::Resume { instance, time } => resume(tx, instance, *time),
        Submission::Terminate { id, turn } => terminate(tx, *id, turn),
    }
}

fn start(
    tx: &mut Tx<'_>,
    new: &NewInstance,
    if_exists: IfExists,
    lease: Option<&Lease>,
    time: Timestamp,
    again: bool,
) -> Done {
    let gone = |written| Ok(Submitted { owner: None, execution: 1, written, last_found: None });
    match tx.remembered(new.start.id.0)? {
        Some(Remembered::Refused(Some(found))) if if_exists != IfExists::Attach => return Err(exists(found)),
        Some(Remembered::Refused(_)) => return gone(false),
        Some(Remembered::Done) => return gone(true),
        None => {}
    }
    let by = lease.map(|lease| lease.epoch);
    if let Some((placement, execution)) = instances::create(tx, new, by, time)? {
        return Ok(Submitted { owner: owner(placement), execution, written: true, last_found: None });
    }
    let find = "SELECT seq, status, owner, execution, start_id = ?2 FROM duroxide_instances WHERE id = ?1";
    let there = tx.sql.row(find, (new.instance.as_str(), new.start.id.0.as_bytes()), |row| {
        Ok((row.get(0)?, status(row, 1)?, epoch(row, 2)?, natural(row, 3)?, row.get(4)?))
    })?;
    let (seq, status, owned, execution, same): (i64, InstanceStatus, Option<Epoch>, u64, bool) =
        there.ok_or(Refusal::Refused(SubmitError::Conflict))?;
    let there = |written| Ok(Submitted { owner: owned, execution, written, last_found: None });
    if same {
        return there(true);
    }
    if if_exists == IfExists::Replace && status.is_finished() {
        instances::remove(tx, &new.instance, seq)?;
    } else {
        if again {
            tx.remember_refused(new.start.id.0, Some(status))?;
        }
        return if if_exists == IfExists::Attach { there(false) } else { Err(exists(status)) };
    }
    let created = instances::create(tx, new, by, time)?;
    let (placement, execution) = created.ok_or(Refusal::Undo(SubmitError::Conflict))?;
    Ok(Submitted { owner: owner(placement), execution, written: true, last_found: None })
}

fn exists(status: InstanceStatus) -> Refusal<SubmitError> {
    Refusal::Refused(SubmitError::Exists(status))
}

fn send(
    tx: &mut Tx<'_>,
    to: &InstanceId,
    message: &MessageRow,
    lease: Option<&Lease>,
    time: Timestamp,
    again: bool,
) -> Done {
    let (target, last_found) = Target::find_for_client(tx, to)?.unzip();
    let last_found = last_found.flatten();
    match tx.remembered(message.id.0)? {
        Some(Remembered::Refused(found)) => return Err(nobody(found)),
        Some(Remembered::Done) => {
            let (owner, execution) = target.map_or((None, 1), |target| (target.owner, target.execution));
            return Ok(Submitted { owner, execution, written: true, last_found });
        }
        None => {}
    }
    let found = target.as_ref().map(|target| target.status);
    let Some(target) = target.filter(|target| !target.status.is_finished()) else {
        if again {
            tx.remember_refused(message.id.0, found)?;
        }
        return Err(nobody(found));
    };
    match target.deliver(tx, message, time, true)? {
        Placement::Refused => Err(Refusal::Refused(SubmitError::Conflict)),
        placement => {
            let by = lease.map(|lease| lease.epoch);
            if owner(placement).is_some_and(|owner| Some(owner) != by) {
                tx.signals.work = true;
                // One that is sent again is there under another number.
                let update = "UPDATE duroxide_instances SET last_found = ?2
                    WHERE seq = ?1 AND EXISTS (SELECT 1 FROM duroxide_messages WHERE arrival = ?2)";
                tx.sql.run(update, (target.seq, tx.last_arrival()))?;
            }
            Ok(Submitted { owner: owner(placement), execution: target.execution, written: true, last_found })
        }
    }
}

/// There is no live instance.
fn nobody(found: Option<InstanceStatus>) -> Refusal<SubmitError> {
    Refusal::Refused(found.map_or(SubmitError::NotFound, SubmitError::Finished))
}

fn resume(tx: &mut Tx<'_>, instance: &InstanceId, time: Timestamp) -> Done {
    tx.saw(time);
    let target = Target::find(tx, instance)?.ok_or(Refusal::Refused(SubmitError::NotFound))?;
    let resumed = instances::resume(tx, target.seq, time)?;
    let unpark = "UPDATE duroxide_activities SET parked = NULL, crashes = 0, alone = 0, suspect = 0
        WHERE instance = ?1 AND parked IS NOT NULL";
    let unparked = tx.sql.run(unpark, [target.seq])? > 0;
    let written = resumed || unparked;
    if written {
        let update = "UPDATE duroxide_instances SET updated_at = ?2 WHERE seq = ?1";
        tx.sql.run(update, (target.seq, time.as_micros()))?;
        tx.signals.work = true;
        tx.signals.changed(instance);
    }
    Ok(Submitted { owner: target.owner, execution: target.execution, written, last_found: None })
}

fn terminate(tx: &mut Tx<'_>, id: CommitId, turn: &Turn) -> Done {
    let done = Submitted { owner: None, execution: turn.execution.number, written: true, last_found: None };
    if tx.is_remembered(id.0)? {
        return Ok(done);
    }
    let find = "SELECT status FROM duroxide_instances WHERE id = ?1";
    let there = tx.sql.row(find, [turn.execution.instance.as_str()], |row| status(row, 0))?;
    let status = there.ok_or(Refusal::Refused(SubmitError::NotFound))?;
    if status.is_finished() {
        return Err(Refusal::Refused(SubmitError::Finished(status)));
    }
    let translate = |error| match error {
        CommitError::Failed(reason) => SubmitError::Failed(reason),
        CommitError::Fenced | CommitError::Conflict => SubmitError::Conflict,
    };
    match turns::turn(tx, id, None, turn) {
        Ok(_) => {
            tx.remember(id.0)?;
            Ok(done)
        }
        Err(Refusal::Refused(error)) => Err(Refusal::Refused(translate(error))),
        Err(Refusal::Undo(error)) => Err(Refusal::Undo(translate(error))),
        Err(Refusal::Storage(error)) => Err(Refusal::Storage(error)),
    }
}

fn owner(placement: Placement) -> Option<Epoch> {
    match placement {
        Placement::Owned(epoch) => Some(epoch),
        Placement::Queued | Placement::Refused => None,
    }
}
