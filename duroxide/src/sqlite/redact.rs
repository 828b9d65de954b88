//! Erases the values of finished instances.

use super::columns::columns;
use super::fault::Refusal;
use super::rows::{event, int, status_or_suspended};
use super::submit::unnumbered;
use super::tx::Tx;
use super::{attempts, options, payloads};
use crate::id::ExecutionId;
use crate::provider::{EventRow, RedactRequest, SubmitError, Submitted};

type Done<T> = Result<T, Refusal<SubmitError>>;

columns! {
    /// An instance `i`.
    mod instance {
        SEQ = "i.seq",
        STATUS = "i.status",
        HAS_ACTIVITIES = "EXISTS (SELECT 1 FROM duroxide_activities a WHERE a.instance = i.seq)",
    }
}

/// Replaces the values and texts of an execution by tombstones.
pub(super) fn redact(tx: &mut Tx<'_>, request: &RedactRequest) -> Done<Submitted> {
    let ExecutionId { instance, identity, number } = &request.execution;
    let find = concat!("SELECT ", instance::list!(), " FROM duroxide_instances i WHERE i.id = ?1 AND i.start_id = ?2");
    let found = tx.sql.row(find, (instance.as_str(), identity.0.as_bytes()), |row| {
        let status = status_or_suspended(row, instance::STATUS);
        Ok((row.get(instance::SEQ)?, status, row.get(instance::HAS_ACTIVITIES)?))
    })?;
    let (seq, status, has_activities): (i64, _, bool) = found.ok_or(Refusal::Refused(SubmitError::NotFound))?;
    if !status.is_finished() || has_activities {
        return Err(Refusal::Refused(SubmitError::Live(status)));
    }
    let execution = (seq, int(*number));
    let events = erased_events(tx, execution, request)?;
    let connection = tx.sql.connection();
    options::secure_delete(connection, true)?;
    let written = write(tx, execution, &events, request);
    options::secure_delete(connection, false)?;
    unnumbered(tx, instance, written?)
}

/// Returns true if the first event of an execution is a tombstone.
pub(super) fn is_erased(tx: &Tx<'_>, execution: (i64, i64)) -> rusqlite::Result<bool> {
    let find = concat!(
        "SELECT ",
        event::list!(),
        " FROM duroxide_events e LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE e.instance = ?1 AND e.execution = ?2 AND e.id = 1"
    );
    let first = tx.sql.row(find, execution, |row| event(row, 0))?;
    Ok(first.is_some_and(|event| event.payload.receipt().is_some()))
}

/// Returns the events of an execution that change, erased, each with the reference to its former payload.
fn erased_events(tx: &Tx<'_>, execution: (i64, i64), request: &RedactRequest) -> Done<Vec<(EventRow, Option<i64>)>> {
    let find = concat!(
        "SELECT ",
        event::list!(),
        " FROM duroxide_events e LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE e.instance = ?1 AND e.execution = ?2 ORDER BY e.id"
    );
    let rows = tx.sql.rows(find, execution, |row| Ok((event(row, 0)?, row.get(event::PAYLOAD_REF)?)))?;
    let mut changed = Vec::new();
    for (mut event, reference) in rows {
        let unreadable = |error: crate::provider::UnreadableRow| SubmitError::Unreadable(error.to_string());
        if event.erase(request.receipt).map_err(|error| Refusal::Refused(unreadable(error)))? {
            changed.push((event, reference));
        }
    }
    Ok(changed)
}

/// Writes erased events, and erases the errors of attempts. Returns true if anything was written.
fn write(
    tx: &Tx<'_>,
    (seq, number): (i64, i64),
    events: &[(EventRow, Option<i64>)],
    request: &RedactRequest,
) -> rusqlite::Result<bool> {
    let mut written = !events.is_empty();
    let update = "UPDATE duroxide_events SET data = ?4, payload = ?5, payload_ref = NULL
        WHERE instance = ?1 AND execution = ?2 AND id = ?3";
    for (event, _) in events {
        let payload = (!event.payload.is_null()).then(|| event.payload.as_bytes());
        tx.sql.run(update, (seq, number, int(event.id.0), &event.data, payload))?;
    }
    let mut references: Vec<i64> = events.iter().filter_map(|(_, reference)| *reference).collect();
    references.sort_unstable();
    references.dedup();
    references.into_iter().try_for_each(|reference| payloads::remove_unreferenced(&tx.sql, reference))?;
    let update = "UPDATE duroxide_attempts SET error = ?5
        WHERE instance = ?1 AND execution = ?2 AND call = ?3 AND attempt = ?4";
    for mut attempt in attempts::all(&tx.sql, seq)?.into_iter().filter(|attempt| int(attempt.execution) == number) {
        if attempt.failed.erase(request.receipt) {
            tx.sql.run(update, (seq, number, int(attempt.call.0), attempt.attempt, &attempt.failed.error))?;
            written = true;
        }
    }
    // It may have been terminated while it was suspended.
    let forget = "UPDATE duroxide_instances SET suspension = NULL, paused = NULL
        WHERE seq = ?1 AND (suspension IS NOT NULL OR paused IS NOT NULL)";
    tx.sql.run(forget, [seq])?;
    let forget = "UPDATE duroxide_instances SET cause = NULL WHERE seq = ?1 AND cause IS NOT NULL";
    Ok(tx.sql.run(forget, [seq])? > 0 || written)
}
