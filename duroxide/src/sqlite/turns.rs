//! Commits of turns.

use std::cell::Cell;

use rusqlite::ToSql;

use super::activities::{self, Leaving};
use super::columns::columns;
use super::deliver::{self, Target};
use super::fault::Refusal;
use super::instances::{self, Begin};
use super::payloads;
use super::places;
use super::rejections;
use super::rows::{int, stored_ready};
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{CallId, CommitId, Epoch, EventId, ExecutionId, InstanceId};
use crate::provider::{
    ChildPlacement, CommitError, Committed, EventRow, InstanceStatus, Lease, NewActivity, NewChild, NewInstance,
    Outgoing, Placement, Ready, Then, Turn,
};

/// Commits a turn: of a lease, or without a lease, from a client that terminates the instance.
pub(super) fn turn(
    tx: &mut Tx<'_>,
    id: CommitId,
    lease: Option<&Lease>,
    turn: &Turn,
) -> Result<Committed, Refusal<CommitError>> {
    tx.observe_time(turn.time);
    let (found, is_advanced) = match &turn.creates {
        Some(new) => (create(tx, id, lease, new, turn)?, creates_advanced(turn)),
        None => match advance_known(tx, id, lease, turn)? {
            Some(seq) => (Some(seq), true),
            None => (find(tx, &turn.execution.instance)?, false),
        },
    };
    let Some(seq) = found else { return not_advanced(tx, id, lease, turn) };
    if let Then::Suspend { .. } = turn.then {
        rejections::forget_stale(tx, seq)?;
    }
    if !is_advanced && !advance(tx, seq, id, lease, turn)? {
        return if turn.creates.is_some() {
            Err(Refusal::Undo(CommitError::Conflict))
        } else {
            not_advanced(tx, id, lease, turn)
        };
    }
    match turn.then {
        Then::Continue | Then::ContinueAsNew { .. } => tx.sql.found.instances.keep(turn.execution.identity, seq),
        Then::Suspend { .. } | Then::Finish { .. } => tx.sql.found.instances.forget(turn.execution.identity),
    }
    let row = Written { seq, lease, turn };
    row.consume(tx)?;
    for event in &turn.events {
        insert_event(tx, seq, turn.execution.number, event)?;
    }
    for activity in &turn.activities {
        row.schedule(tx, activity)?;
    }
    let from = &row.then(tx)?;
    let (id, by) = (&turn.execution.instance, lease.map(|lease| lease.epoch));
    let sender = Sender { from, id, by, time: turn.time };
    let mut committed = Committed::default();
    for child in &turn.starts {
        committed.starts.push(sender.start_child(tx, child)?);
    }
    for out in &turn.messages {
        committed.messages.push(sender.send(tx, out)?);
    }
    Ok(committed)
}

/// Returns true if the row of a new instance is inserted in the state after its first turn, so that no second statement
/// advances it. The preconditions of the turn hold for a new instance.
fn creates_advanced(turn: &Turn) -> bool {
    matches!(turn.then, Then::Continue) && turn.after == EventId(0)
}

/// Creates the instance of a first turn, without messages. Returns `None` if the id is taken.
fn create(
    tx: &mut Tx<'_>,
    id: CommitId,
    lease: Option<&Lease>,
    new: &NewInstance,
    turn: &Turn,
) -> Result<Option<i64>, Refusal<CommitError>> {
    if tx.is_recorded(new.start.id.0)? || turn.execution != new.first_execution() {
        return Err(Refusal::Refused(CommitError::Conflict));
    }
    // Refuse the turn before it writes: during a rollout this is frequent, and an undo repeats the whole transaction. The
    // turn has pinned the version of its node.
    if let Some(lease) = lease
        && instances::is_outdated(tx, lease.epoch, new)?
        && find(tx, &new.instance)?.is_none()
    {
        return Err(Refusal::Refused(CommitError::Conflict));
    }
    let begin = if creates_advanced(turn) { Begin::Advanced { commit: id, turn } } else { Begin::Turn };
    let Some(seq) = instances::insert(tx, new, lease.map(|lease| lease.epoch), turn.time, begin)? else {
        return Ok(None);
    };
    match lease {
        Some(lease) if tx.members()?.is_member(lease.epoch) => Ok(Some(seq)),
        _ => Err(Refusal::Undo(CommitError::Fenced)),
    }
}

fn find(tx: &Tx<'_>, id: &InstanceId) -> rusqlite::Result<Option<i64>> {
    tx.sql.row("SELECT seq FROM duroxide_instances WHERE id = ?1", [id.as_str()], |row| row.get(0))
}

/// Advances an instance whose row is known. Returns `None` if it is not known or was not advanced. A turn that suspends its
/// instance is left out: it removes rows by the number before it advances.
fn advance_known(tx: &Tx<'_>, id: CommitId, lease: Option<&Lease>, turn: &Turn) -> rusqlite::Result<Option<i64>> {
    if let Then::Suspend { .. } = turn.then {
        return Ok(None);
    }
    let Some(seq) = tx.sql.found.instances.get(turn.execution.identity) else { return Ok(None) };
    Ok(advance(tx, seq, id, lease, turn)?.then_some(seq))
}

/// Advances the instance if its state is the one that the turn expects and the lease owns it. This one statement
/// decides the commit. Returns true if the instance was advanced.
fn advance(tx: &Tx<'_>, seq: i64, id: CommitId, lease: Option<&Lease>, turn: &Turn) -> rusqlite::Result<bool> {
    let (last, version) = match &turn.then {
        Then::ContinueAsNew { version } => (EventId(0), version.as_ref()),
        Then::Continue | Then::Suspend { .. } | Then::Finish { .. } => (turn.last_event(), turn.version.as_ref()),
    };
    let (last, time, version) = (int(last.0), turn.time.as_micros(), version.map(ToString::to_string));
    let ExecutionId { identity, number, .. } = &turn.execution;
    let (identity, number, after) = (identity.0.as_bytes(), int(*number), int(turn.after.0));
    let (id, owner) = (id.0.as_bytes(), lease.map(|lease| int(lease.epoch.0)));
    let instance = turn.execution.instance.as_str();
    let mut params: Vec<&dyn ToSql> = Vec::with_capacity(13);
    params.extend([&last as &dyn ToSql, &time, &id, &version, &seq, &identity, &number, &after, &owner, &instance]);
    let ended: &str;
    let waits = turn.waits.as_ref();
    let since = waits.map(|waits| waits.since.as_micros());
    let (waits, until) =
        (waits.map(|waits| &waits.text), waits.and_then(|waits| waits.until).map(Timestamp::as_micros));
    match &turn.then {
        Then::Continue => params.extend([&waits as &dyn ToSql, &since, &until]),
        Then::ContinueAsNew { .. } => {}
        Then::Suspend { reason } => params.extend([reason as &dyn ToSql, &turn.cause]),
        Then::Finish { status } => {
            ended = status.as_str();
            params.extend([&ended as &dyn ToSql, &turn.cause]);
        }
    }
    Ok(tx.sql.run(advance_sql(&turn.then, lease.is_some()), &*params)? > 0)
}

/// Returns the statement for a kind of turn. Each kind sets only the columns that it changes, so that no other index is
/// touched. This is the most frequent statement of all, so its parameters are numbered: a named one is searched for by
/// its name.
fn advance_sql(then: &Then, fenced: bool) -> &'static str {
    macro_rules! advance {
        ($set:literal, $where:literal) => {
            concat!(
                "UPDATE duroxide_instances SET last_event = ?1, updated_at = ?2, last_commit = ?3, ",
                $set,
                " WHERE seq = ?5 AND id = ?10 AND start_id = ?6 AND execution = ?7 AND last_event = ?8",
                " AND last_commit IS NOT ?3 AND ",
                $where
            )
        };
        ($set:literal) => {
            // `RETURNING` is avoided here and elsewhere in a turn, because SQLite creates a temporary table for it on each
            // run.
            if fenced {
                advance!($set, "owner = ?9 AND status = 'running'")
            } else {
                advance!($set, "?9 IS NULL AND status NOT IN ('completed', 'failed', 'cancelled', 'terminated')")
            }
        };
    }
    match then {
        Then::Continue => {
            advance!(
                "version = coalesce(?4, version), suspension = NULL, cause = NULL, waits = ?11,
                 waits_since = nullif(?12, created_at), waits_until = ?13, crashes = 0, alone = 0, suspect = 0"
            )
        }
        Then::Suspend { .. } => advance!(
            "version = coalesce(?4, version), status = 'suspended', suspension = ?11, cause = ?12, owner = NULL, ready_at = NULL,
             crashes = 0, alone = 0, suspect = 0"
        ),
        Then::Finish { .. } => advance!(
            "version = coalesce(?4, version), status = ?11, paused = NULL, suspension = NULL, cause = ?12, waits = NULL,
             waits_since = NULL, waits_until = NULL, owner = NULL, ready_at = NULL, finished_at = ?2, crashes = 0, alone = 0, suspect = 0"
        ),
        Then::ContinueAsNew { .. } => {
            advance!(
                "version = ?4, execution = execution + 1, suspension = NULL, cause = NULL, waits = NULL, waits_since = NULL,
                 waits_until = NULL, crashes = 0, alone = 0, suspect = 0"
            )
        }
    }
}

columns! {
    mod last { IS_SAME = "last_commit IS ?2", IS_OWNED = "owner IS ?3" }
}

/// Returns the result of a turn that did not advance its instance: it was committed before, the lease is fenced, or the
/// state is another one.
fn not_advanced(
    tx: &Tx<'_>,
    id: CommitId,
    lease: Option<&Lease>,
    turn: &Turn,
) -> Result<Committed, Refusal<CommitError>> {
    // If the turn creates an instance whose id is taken, the owner of that instance does not matter.
    let lease = lease.filter(|_| turn.creates.is_none());
    let find = concat!("SELECT ", last::list!(), " FROM duroxide_instances WHERE id = ?1");
    let params = (turn.execution.instance.as_str(), id.0.as_bytes(), lease.map(|lease| int(lease.epoch.0)));
    match tx.sql.row(find, params, |row| Ok((row.get(last::IS_SAME)?, row.get(last::IS_OWNED)?)))? {
        Some((true, _)) => Ok(Committed { repeated: true, ..Committed::default() }),
        Some((false, owned)) if owned || lease.is_none() => Err(Refusal::Refused(CommitError::Conflict)),
        _ => Err(Refusal::Refused(CommitError::Fenced)),
    }
}

pub(super) fn insert_event(tx: &mut Tx<'_>, seq: i64, execution: u64, event: &EventRow) -> rusqlite::Result<()> {
    let payload = payloads::store(&tx.sql, seq, &event.payload)?;
    let insert = "INSERT INTO duroxide_events
        (instance, execution, id, time, decision, format, data, payload, payload_ref, place)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let place = event.at.as_deref().map(|text| places::number(tx, text)).transpose()?;
    let EventRow { id, time, decision, format, data, .. } = event;
    let (id, execution, time) = (int(id.0), int(execution), time.as_micros());
    let params = (seq, execution, id, time, decision, format, data, payload.inline, payload.reference, place);
    tx.sql.run(insert, params).map(drop)
}

/// A turn that has advanced its instance, and its remaining writes.
struct Written<'a> {
    seq: i64,
    lease: Option<&'a Lease>,
    turn: &'a Turn,
}

impl Written<'_> {
    /// Removes consumed messages, consumed outcomes, and cancelled activities and messages.
    fn consume(&self, tx: &mut Tx<'_>) -> Result<(), Refusal<CommitError>> {
        let Self { seq, lease, turn } = *self;
        let number = turn.execution.number;
        for message in &turn.consumed {
            if !deliver::consume(tx, seq, *message)? {
                return Err(Refusal::Undo(CommitError::Conflict));
            }
        }
        for (call, attempt) in &turn.outcomes {
            if !activities::remove_owned(tx, (seq, int(number), int(call.0)), *attempt, lease)? {
                return Err(Refusal::Undo(CommitError::Conflict));
            }
        }
        for call in &turn.cancelled_activities {
            activities::cancel(tx, &self.leaving(), number, *call)?;
        }
        for call in &turn.cancelled_messages {
            remove_delayed(tx, seq, number, *call)?;
        }
        Ok(())
    }

    fn schedule(&self, tx: &mut Tx<'_>, new: &NewActivity) -> rusqlite::Result<()> {
        let owner = self.lease.filter(|_| new.eager).map(|lease| int(lease.epoch.0));
        let insert = "INSERT INTO duroxide_activities
            (instance, execution, call, scheduled, name, tag, detached, headers, visible_at, owner)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let key = (self.seq, int(self.turn.execution.number), int(new.call.0));
        let headers = super::rows::text_map_json(&new.headers);
        let (scheduled, ready) = (int(new.scheduled.0), stored_ready(Ready::AtOnce(self.turn.time)));
        tx.signals.work |= owner.is_none();
        let params = (key.0, key.1, key.2, scheduled, &new.name, &new.tag, new.detached, headers, ready, owner);
        tx.sql.run(insert, params).map(drop)
    }

    fn leaving(&self) -> Leaving<'_> {
        let ExecutionId { instance: id, identity, .. } = &self.turn.execution;
        Leaving { id, identity: *identity, seq: self.seq, by: self.lease.map(|lease| lease.epoch) }
    }

    /// Applies the effects of an ended or suspended execution. Returns the instance in its new state.
    fn then(&self, tx: &mut Tx<'_>) -> rusqlite::Result<Target> {
        let Self { seq, lease, turn } = *self;
        let execution = &turn.execution;
        let mut target = Target {
            seq,
            identity: execution.identity,
            status: InstanceStatus::Running,
            execution: execution.number,
            owner: lease.map(|lease| lease.epoch),
            arrivals: Cell::new(None),
        };
        match &turn.then {
            Then::Continue => (),
            Then::Suspend { .. } => {
                let released = rejections::reject(tx, seq, lease)?;
                let status = if released { InstanceStatus::Running } else { InstanceStatus::Suspended };
                (target.status, target.owner) = (status, None);
                // It may have a request to terminate, which is now carried out by any node.
                tx.signals.work = true;
                tx.signals.changed(&execution.instance);
            }
            Then::Finish { status } => {
                (target.status, target.owner) = (*status, None);
                activities::remove_all(tx, &self.leaving(), Some(execution.number))?;
                deliver::sweep(tx, seq, None)?;
                tx.signals.finished(execution, *status, turn.events.last());
            }
            Then::ContinueAsNew { .. } => {
                target.execution += 1;
                activities::remove_all(tx, &self.leaving(), Some(execution.number))?;
                deliver::sweep(tx, seq, Some(execution.number))?;
                let insert = "INSERT INTO duroxide_executions (instance, number, continued_at) VALUES (?1, ?2, ?3)";
                tx.sql.run(insert, (seq, int(execution.number), turn.time.as_micros()))?;
            }
        }
        Ok(target)
    }
}

/// The writer of the children and messages of an execution.
pub(super) struct Sender<'a> {
    /// The instance in its new state.
    pub(super) from: &'a Target,
    pub(super) id: &'a InstanceId,
    /// The epoch that owns what it creates, and forwards messages.
    pub(super) by: Option<Epoch>,
    pub(super) time: Timestamp,
}

impl Sender<'_> {
    pub(super) fn start_child(&self, tx: &mut Tx<'_>, child: &NewChild) -> rusqlite::Result<ChildPlacement> {
        let Self { from, time, .. } = *self;
        let Some(start) = instances::create(tx, &child.new, self.by, time)? else {
            let answer = from.deliver(tx, &child.if_taken, time, false)?;
            return Ok(ChildPlacement { start: Placement::Refused, answer: Some(answer) });
        };
        let answer = child.accepted.as_ref().map(|accepted| from.deliver(tx, accepted, time, false)).transpose()?;
        Ok(ChildPlacement { start, answer })
    }

    pub(super) fn send(&self, tx: &mut Tx<'_>, out: &Outgoing) -> rusqlite::Result<Placement> {
        let Self { from, time, .. } = *self;
        let fits = |target: &Target| out.identity.is_none_or(|wanted| target.identity.matches(wanted));
        if out.to == *self.id && fits(from) {
            return from.deliver(tx, &out.message, time, false);
        }
        let Some(target) = Target::find(tx, &out.to)?.filter(fits) else { return Ok(Placement::Refused) };
        let placement = target.deliver(tx, &out.message, time, false)?;
        target.leave_mail(tx, placement, self.by)?;
        Ok(placement)
    }
}

/// Removes the delayed messages of a call.
fn remove_delayed(tx: &Tx<'_>, seq: i64, execution: u64, call: CallId) -> rusqlite::Result<()> {
    let delete = "DELETE FROM duroxide_messages
        WHERE instance = ?1 AND execution = ?2 AND call = ?3 AND visible_at IS NOT NULL";
    tx.sql.run(delete, (seq, int(execution), int(call.0))).map(drop)
}
