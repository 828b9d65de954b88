//! Delayed work that a client makes due at once.

use super::deliver::Target;
use super::fault::Refusal;
use super::instances;
use super::rows::{int, stored_ready};
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::provider::{Placement, Ready, SubmitError, WakeRequest};

/// Makes the delayed start of an instance due, and its activities that wait for their next attempt. Returns true if there
/// was any.
pub(super) fn wake(tx: &mut Tx<'_>, request: &WakeRequest) -> Result<bool, Refusal<SubmitError>> {
    let WakeRequest { instance, call, time, .. } = request;
    let target = Target::find_live(tx, instance)?;
    let update = "UPDATE duroxide_activities SET visible_at = ?2
        WHERE instance = ?1 AND owner IS NULL AND parked IS NULL AND visible_at > ?3
            AND (?4 IS NULL OR (execution = ?5 AND call = ?4))";
    let at_once = stored_ready(Ready::AtOnce(*time));
    let params =
        (target.seq, at_once, stored_ready(Ready::At(*time)), call.map(|call| int(call.0)), int(target.execution));
    let mut written = tx.sql.run(update, params)? > 0;
    if call.is_none() {
        written |= wake_start(tx, &target, *time)?;
    }
    tx.signals.work |= written;
    Ok(written)
}

fn wake_start(tx: &mut Tx<'_>, target: &Target, time: Timestamp) -> rusqlite::Result<bool> {
    let number = target.owner.map(|_| target.last_number(tx)).transpose()?.map(|last| last + 1);
    let update = "UPDATE duroxide_messages SET visible_at = ?2, number = ?3
        WHERE instance = ?1 AND lane = 0 AND visible_at > ?2";
    if tx.sql.run(update, (target.seq, time.as_micros(), number))? == 0 {
        return Ok(false);
    }
    if let (Some(epoch), Some(last)) = (target.owner, number) {
        tx.sql.run("UPDATE duroxide_instances SET arrivals = ?2 WHERE seq = ?1", (target.seq, last))?;
        let number = Some(last.unsigned_abs());
        target.leave_mail(tx, Placement::Owned { epoch, identity: target.identity, number }, None)?;
    }
    instances::settle_ready(tx, target.seq)?;
    Ok(true)
}
