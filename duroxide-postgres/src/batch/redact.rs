//! Erases the values of finished instances.
//!
//! The events of a turn share a row, so the rows of the execution are written again.

use duroxide::id::ExecutionId;
use duroxide::provider::{EventRow, RedactRequest, Submission, SubmitError, Submitted};

use super::model::Model;
use super::write::ADD_EVENTS;
use super::{Entry, Request};
use crate::attempts;
use crate::connect::{Connection, step};
use crate::events;
use crate::fault::Fault;
use crate::rows::{int, status};

/// True if something was erased.
pub(super) type Redacted = Result<bool, SubmitError>;

/// Carries out an erasure within the transaction of its entry. Returns `None` if the entry is another request.
pub(super) async fn redact(connection: &Connection, entries: &[Entry]) -> Result<Option<Redacted>, Fault> {
    let [Entry { request: Request::Submit(submission), .. }] = entries else { return Ok(None) };
    let Submission::Redact(request) = submission.unaudited() else { return Ok(None) };
    let ExecutionId { instance, identity, .. } = &request.execution;
    let lock = "SELECT seq, status FROM instances WHERE id = $1 AND identity = $2 FOR UPDATE";
    let found = connection.query(step!(lock, instance.as_str(), identity.0)).await?;
    let Some(row) = found.first() else { return Ok(Some(Err(SubmitError::NotFound))) };
    let (seq, status): (i64, _) = (row.try_get("seq")?, status(row, "status")?);
    let activities = connection.query(step!("SELECT 1 FROM activities WHERE instance = $1 LIMIT 1", seq)).await?;
    if !status.is_finished() || !activities.is_empty() {
        return Ok(Some(Err(SubmitError::Live(status))));
    }
    Ok(Some(match redact_events(connection, seq, request).await? {
        Ok(written) => Ok(redact_others(connection, seq, request).await? || written),
        Err(error) => Err(error),
    }))
}

/// Returns true if the first event of an execution is a tombstone.
pub(super) async fn is_erased(connection: &Connection, seq: i64, number: u64) -> Result<bool, Fault> {
    let find = "SELECT first, heads, body FROM events WHERE instance = $1 AND execution = $2 ORDER BY last LIMIT 1";
    let rows = connection.query(step!(find, seq, int(number))).await?;
    let events = rows.first().map(events::unpack).transpose()?.unwrap_or_default();
    Ok(events.first().is_some_and(|event| event.payload.receipt().is_some()))
}

async fn redact_events(connection: &Connection, seq: i64, request: &RedactRequest) -> Result<Redacted, Fault> {
    let number = int(request.execution.number);
    let find = "SELECT first, heads, body FROM events WHERE instance = $1 AND execution = $2 ORDER BY last";
    let rows = connection.query(step!(find, seq, number)).await?;
    let mut events: Vec<EventRow> = Vec::new();
    for row in &rows {
        events.extend(events::unpack(row)?);
    }
    let mut written = false;
    for event in &mut events {
        match event.erase(request.receipt) {
            Ok(erased) => written |= erased,
            Err(error) => return Ok(Err(SubmitError::Unreadable(error.to_string()))),
        }
    }
    if written {
        let rows = events::pack(&events);
        let column = |value: fn(&events::EventsRow) -> i64| rows.iter().map(value).collect::<Vec<_>>();
        let steps = [
            step!("DELETE FROM events WHERE instance = $1 AND execution = $2", seq, number),
            step!(
                ADD_EVENTS,
                vec![seq; rows.len()],
                vec![number; rows.len()],
                column(|row| int(row.last)),
                column(|row| int(row.first)),
                rows.iter().map(|row| row.heads.as_str()).collect::<Vec<_>>(),
                rows.iter().map(|row| row.body.as_slice()).collect::<Vec<_>>(),
            ),
        ];
        connection.run(&steps).await?;
    }
    Ok(Ok(written))
}

/// Erases the errors of attempts and the cause of a failure, and removes events that the instance no longer receives.
async fn redact_others(connection: &Connection, seq: i64, request: &RedactRequest) -> Result<bool, Fault> {
    let number = int(request.execution.number);
    let (mut calls, mut numbers, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for mut record in attempts::of_execution(connection, seq, number).await? {
        if record.failed.erase(request.receipt) {
            calls.push(int(record.call.0));
            numbers.push(i64::from(record.attempt));
            errors.push(record.failed.error);
        }
    }
    let mut written = !errors.is_empty();
    if written {
        let update = "UPDATE attempts a SET error = t.error
            FROM unnest($3::bigint[], $4::bigint[], $5::text[]) AS t (call, attempt, error)
            WHERE a.instance = $1 AND a.execution = $2 AND a.call = t.call AND a.attempt = t.attempt";
        connection.query(step!(update, seq, number, calls, numbers, errors)).await?;
    }
    let forget = "UPDATE instances SET cause = NULL WHERE seq = $1 AND cause IS NOT NULL RETURNING 1";
    written |= !connection.query(step!(forget, seq)).await?.is_empty();
    let refused = connection.query(step!("DELETE FROM outbox WHERE instance = $1 RETURNING 1", seq)).await?;
    Ok(written || !refused.is_empty())
}

impl Model {
    /// Returns the answer to an erasure, which was carried out before the other entries.
    pub(super) fn redacted(&mut self, request: &RedactRequest) -> Result<Submitted, SubmitError> {
        let instance = &request.execution.instance;
        match self.redacted.take().unwrap_or(Err(SubmitError::Conflict)) {
            Ok(written) => Ok(self.unnumbered(instance, written)),
            // Only its row in `live` shows that it is suspended.
            Err(SubmitError::Live(status)) => {
                Err(SubmitError::Live(self.instances.get(instance).map_or(status, |instance| instance.status)))
            }
            Err(error) => Err(error),
        }
    }
}
