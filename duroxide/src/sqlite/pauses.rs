//! Pauses of instances.

use super::deliver::Target;
use super::fault::Refusal;
use super::rows::stored_ready;
use super::tx::Tx;
use crate::id::InstanceId;
use crate::provider::{Ready, SubmitError, SuspendRequest};

/// Suspends an instance until it is resumed, by a client or at a time.
pub(super) fn suspend(tx: &mut Tx<'_>, request: &SuspendRequest) -> Result<(), Refusal<SubmitError>> {
    let SuspendRequest { instance, reason, cause, until, time, .. } = request;
    let target = Target::find_live(tx, instance)?;
    let update = "UPDATE duroxide_instances
        SET status = 'suspended', paused = ?2, ready_at = ?3, updated_at = ?4, cause = ?5, owner = NULL, alone = 0,
            crashes = 0, suspect = 0, lost_by = NULL
        WHERE seq = ?1";
    let ready_at = until.map(|until| stored_ready(Ready::At(until)));
    tx.sql.run(update, (target.seq, reason, ready_at, time.as_micros(), cause))?;
    // It may have a request to terminate, which is now carried out by any node.
    tx.signals.work = true;
    tx.signals.changed(instance);
    Ok(())
}

/// Resumes an instance whose pause has ended and that the statement before has claimed. All builds may try it.
pub(super) fn end(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let update =
        "UPDATE duroxide_instances SET status = 'running', paused = NULL, suspension = NULL, cause = NULL, crashes = 0,
        suspect = 0, updated_at = ?2 WHERE seq = ?1";
    tx.sql.run(update, (seq, tx.latest_time().as_micros()))?;
    tx.sql.run("DELETE FROM duroxide_rejections WHERE instance = ?1 AND execution = 0", [seq])?;
    let id = tx.sql.row("SELECT id FROM duroxide_instances WHERE seq = ?1", [seq], |row| row.get::<_, String>(0))?;
    let id = id.and_then(|id| InstanceId::try_from(id).ok());
    id.iter().for_each(|id| tx.signals.changed(id));
    Ok(())
}
