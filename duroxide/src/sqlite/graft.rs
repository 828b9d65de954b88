//! Executions that begin with a given history, and the rows of an instance outside its histories.

use std::cell::Cell;

use rusqlite::Row;

use super::activities::{self, Leaving};
use super::columns::columns;
use super::deliver::{self, Target, ready_by_messages};
use super::fault::Refusal;
use super::instances::{self, Begin};
use super::records::waits;
use super::rows::{
    activity_key, int, message, natural, read_ready, status_or_suspended, stored_ready, text_map, text_map_json, time,
    uuid,
};
use super::sql::Sql;
use super::submit::unnumbered;
use super::tx::Tx;
use super::{attempts, redact, rejections, turns};
use crate::clock::Timestamp;
use crate::id::{CallId, EventId, ExecutionId, Identity, InstanceId};
use crate::provider::{
    CopiedInstance, EarlierExecution, Graft, GraftTarget, InstanceRows, InstanceState, InstanceStatus, NewActivity,
    NextExecution, Ready, StoredActivity, StoredMessage, StoredPause, SubmitError, Submitted,
};

type Done<T> = Result<T, Refusal<SubmitError>>;

columns! {
    mod target { SEQ = "seq", HAS_FINISHED = "finished_at IS NOT NULL" }
}

columns! {
    mod earlier { NUMBER = "number", CONTINUED_AT = "continued_at" }
}

/// Writes an execution that begins with a given history.
pub(super) fn graft(tx: &mut Tx<'_>, graft: &Graft) -> Done<Submitted> {
    tx.observe_time(graft.time);
    if tx.is_recorded(graft.id.0)? {
        return unnumbered(tx, graft.instance(), true);
    }
    let (seq, status) = match &graft.target {
        GraftTarget::Next(next) => (begin_next(tx, next, graft)?, InstanceStatus::Running),
        GraftTarget::New(copied) => (add_copy(tx, copied, graft)?, copied.state.status),
    };
    let execution = graft.execution();
    for event in &graft.history {
        turns::insert_event(tx, seq, execution.number, event)?;
    }
    for activity in &graft.activities {
        add_activity(tx, seq, activity)?;
    }
    let target = Target {
        seq,
        identity: execution.identity,
        status,
        execution: execution.number,
        owner: None,
        arrivals: Cell::new(None),
    };
    for StoredMessage { row, stored_at, by_client } in &graft.messages {
        target.deliver(tx, row, *stored_at, *by_client)?;
    }
    let sender = turns::Sender { from: &target, id: graft.instance(), by: None, time: graft.time };
    for child in &graft.starts {
        sender.start_child(tx, child)?;
    }
    for out in &graft.outgoing {
        sender.send(tx, out)?;
    }
    tx.record_done(graft.id.0)?;
    tx.signals.work = true;
    tx.signals.changed(graft.instance());
    Ok(Submitted { owner: None, identity: Some(execution.identity), number: None, written: true })
}

/// Continues an instance. Returns its number.
fn begin_next(tx: &mut Tx<'_>, next: &NextExecution, graft: &Graft) -> Done<i64> {
    let ExecutionId { instance, identity, number } = &next.execution;
    let advance = "UPDATE duroxide_instances SET execution = execution + 1, last_event = ?5, version = ?6,
            status = 'running', paused = NULL, suspension = NULL, cause = NULL, waits = NULL, waits_since = NULL,
            waits_until = NULL, owner = NULL, crashes = 0, alone = 0, suspect = 0, updated_at = ?7,
            finished_at = NULL, last_commit = ?8, arrivals = iif(finished_at IS NULL, arrivals, 0)
        WHERE id = ?1 AND start_id = ?2 AND execution = ?3 AND last_event = ?4";
    let version = graft.version.as_ref().map(ToString::to_string);
    let (last, time) = (int(graft.last_event().0), graft.time.as_micros());
    let params = (
        instance.as_str(),
        identity.0.as_bytes(),
        int(*number),
        int(next.last_event.0),
        last,
        version,
        time,
        graft.id.0.as_bytes(),
    );
    let find = concat!("SELECT ", target::list!(), " FROM duroxide_instances WHERE id = ?1");
    let read = |row: &Row<'_>| Ok((row.get(target::SEQ)?, row.get(target::HAS_FINISHED)?));
    let found = tx.sql.row(find, [instance.as_str()], read)?;
    let (seq, has_finished): (i64, bool) = found.ok_or(Refusal::Refused(SubmitError::NotFound))?;
    let is_erased = has_finished && redact::is_erased(tx, (seq, int(*number)))?;
    if is_erased || tx.sql.run(advance, params)? == 0 {
        return Err(Refusal::Refused(SubmitError::Conflict));
    }
    for message in &next.consumed {
        if !deliver::consume(tx, seq, *message)? {
            return Err(Refusal::Undo(SubmitError::Conflict));
        }
    }
    let leaving = Leaving { id: instance, identity: *identity, seq, by: None };
    for call in &next.cancelled_activities {
        activities::cancel(tx, &leaving, *number, *call)?;
    }
    activities::remove_all(tx, &leaving, Some(*number))?;
    deliver::sweep(tx, seq, Some(*number))?;
    for delete in [
        "DELETE FROM duroxide_rejections WHERE instance = ?1 AND execution = 0",
        // The numbers of its messages may begin again.
        "DELETE FROM duroxide_mail WHERE owner IN (SELECT epoch FROM duroxide_nodes) AND instance = ?1",
    ] {
        tx.sql.run(delete, [seq])?;
    }
    let insert = "INSERT INTO duroxide_executions (instance, number, continued_at) VALUES (?1, ?2, ?3)";
    tx.sql.run(insert, (seq, int(*number), time))?;
    let queue = concat!("UPDATE duroxide_instances SET ready_at = ", ready_by_messages!("?1"), " WHERE seq = ?1");
    tx.sql.run(queue, [seq])?;
    Ok(seq)
}

/// Creates an instance with a past. Returns its number.
fn add_copy(tx: &mut Tx<'_>, copied: &CopiedInstance, graft: &Graft) -> Done<i64> {
    let Some(seq) = instances::insert(tx, &copied.new, None, copied.created_at, Begin::Turn)? else {
        let there = Target::find(tx, &copied.new.instance)?.ok_or(Refusal::Refused(SubmitError::Conflict))?;
        return Err(Refusal::Refused(SubmitError::Exists(there.status)));
    };
    let update = "UPDATE duroxide_instances SET version = ?2, status = ?3, execution = ?4, last_event = ?5,
            suspension = ?6, updated_at = ?7, finished_at = ?8, last_commit = ?9, paused = ?10, ready_at = ?11, waits = ?12,
            waits_since = nullif(?13, created_at), waits_until = ?14, cause = ?15 WHERE seq = ?1";
    let (pause, waits) = (copied.state.pause.as_ref(), copied.state.waits.as_ref());
    let params = rusqlite::params![
        seq,
        graft.version.as_ref().map(ToString::to_string),
        copied.state.status.as_str(),
        int(copied.execution),
        int(graft.last_event().0),
        &copied.state.suspension,
        copied.updated_at.as_micros(),
        copied.finished_at.map(|time| time.as_micros()),
        graft.id.0.as_bytes(),
        pause.map(|pause| pause.reason.as_str()),
        pause.and_then(|pause| Some(stored_ready(Ready::At(pause.until?)))),
        waits.map(|waits| waits.text.as_str()),
        waits.map(|waits| waits.since.as_micros()),
        waits.and_then(|waits| Some(waits.until?.as_micros())),
        &copied.state.cause,
    ];
    tx.sql.run(update, params)?;
    for build in &copied.state.rejected_by {
        add_rejection(tx, (seq, 0, 0), build)?;
    }
    for EarlierExecution { number, continued_at, history } in &copied.state.earlier {
        let insert = "INSERT INTO duroxide_executions (instance, number, continued_at) VALUES (?1, ?2, ?3)";
        tx.sql.run(insert, (seq, int(*number), continued_at.as_micros()))?;
        for event in history {
            turns::insert_event(tx, seq, *number, event)?;
        }
    }
    for attempt in &copied.state.attempts {
        attempts::insert(&tx.sql, seq, attempt)?;
    }
    Ok(seq)
}

fn add_activity(tx: &mut Tx<'_>, seq: i64, stored: &StoredActivity) -> rusqlite::Result<()> {
    let StoredActivity { execution, activity: new, attempt, ready, rejected, .. } = stored;
    let StoredActivity { cause, other_cause, rejected_by, parked, .. } = stored;
    let insert = "INSERT INTO duroxide_activities
        (instance, execution, call, scheduled, name, tag, detached, headers, attempt, visible_at, rejected, parked, cause,
         other_cause)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let key = (seq, int(*execution), int(new.call.0));
    let (scheduled, headers, ready) = (int(new.scheduled.0), text_map_json(&new.headers), stored_ready(*ready));
    let reason = rejected.as_ref().filter(|_| *parked);
    let params = rusqlite::params![
        key.0,
        key.1,
        key.2,
        scheduled,
        new.name,
        new.tag,
        new.detached,
        headers,
        attempt,
        ready,
        rejected,
        reason,
        cause,
        other_cause
    ];
    tx.sql.run(insert, params)?;
    rejected_by.iter().try_for_each(|build| add_rejection(tx, key, build))
}

fn add_rejection(tx: &Tx<'_>, (seq, execution, call): (i64, i64, i64), build: &str) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO duroxide_rejections (instance, execution, call, build) VALUES (?1, ?2, ?3, ?4)";
    tx.sql.run(insert, (seq, execution, call, build)).map(drop)
}

columns! {
    /// An instance.
    mod instance {
        SEQ = "seq",
        START_ID = "start_id",
        EXECUTION = "execution",
        LAST_EVENT = "last_event",
        STATUS = "status",
        SUSPENSION = "suspension",
        PAUSED = "paused",
        READY_AT = "ready_at",
        WAITS = "waits",
        WAITS_SINCE = "coalesce(waits_since, created_at)",
        WAITS_UNTIL = "waits_until",
        CAUSE = "cause",
    }
}

columns! {
    /// An activity `a`. The columns follow its key.
    mod activity {
        SCHEDULED = "a.scheduled",
        NAME = "a.name",
        TAG = "a.tag",
        DETACHED = "a.detached",
        HEADERS = "a.headers",
        ATTEMPT = "a.attempt",
        VISIBLE_AT = "a.visible_at",
        REJECTED = "a.rejected",
        CAUSE = "a.cause",
        OTHER_CAUSE = "a.other_cause",
        PARKED = "a.parked IS NOT NULL",
    }
}

/// Reads the rows of an instance outside its histories.
pub(super) fn rows(sql: &Sql, id: &InstanceId) -> rusqlite::Result<Option<InstanceRows>> {
    let find = concat!("SELECT ", instance::list!(), " FROM duroxide_instances WHERE id = ?1");
    let found = sql.row(find, [id.as_str()], |row| {
        let (identity, number) = (Identity(uuid(row, instance::START_ID)?), natural(row, instance::EXECUTION)?);
        let rows = InstanceRows {
            execution: ExecutionId { instance: id.clone(), identity, number },
            last_event: EventId(natural(row, instance::LAST_EVENT)?),
            state: InstanceState {
                suspension: row.get(instance::SUSPENSION)?,
                pause: pause(row)?,
                waits: waits(row, [instance::WAITS, instance::WAITS_SINCE, instance::WAITS_UNTIL])?,
                cause: row.get(instance::CAUSE)?,
                ..InstanceState::new(status_or_suspended(row, instance::STATUS))
            },
            messages: Vec::new(),
            activities: Vec::new(),
        };
        Ok((row.get::<_, i64>(instance::SEQ)?, rows))
    })?;
    let Some((seq, mut rows)) = found else { return Ok(None) };
    if rows.state.suspension.is_some() {
        rows.state.rejected_by = rejections::builds(sql, (seq, 0, 0))?;
    }
    rows.messages = messages(sql, seq)?;
    rows.activities = activities_of(sql, seq)?;
    rows.state.attempts = attempts::all(sql, seq)?;
    let find = concat!(
        "SELECT ",
        earlier::list!(),
        " FROM duroxide_executions x WHERE instance = ?1 AND NOT EXISTS (
            SELECT 1 FROM duroxide_removals r WHERE r.instance = ?1 AND r.execution = x.number) ORDER BY number"
    );
    rows.state.earlier = sql.rows(find, [seq], |row| {
        let (number, continued_at) = (natural(row, earlier::NUMBER)?, time(row, earlier::CONTINUED_AT)?);
        Ok(EarlierExecution { number, continued_at, history: Vec::new() })
    })?;
    Ok(Some(rows))
}

/// Reads the pause of an instance. While it is paused, it is ready when the pause ends.
fn pause(row: &Row<'_>) -> rusqlite::Result<Option<StoredPause>> {
    let (reason, until) =
        (row.get::<_, Option<String>>(instance::PAUSED)?, row.get::<_, Option<i64>>(instance::READY_AT)?);
    let until = until.map(|until| read_ready(until).since(Timestamp::MAX));
    Ok(reason.map(|reason| StoredPause { reason, until }))
}

fn messages(sql: &Sql, seq: i64) -> rusqlite::Result<Vec<StoredMessage>> {
    let find = concat!(
        "SELECT ",
        message::list!(),
        ", m.sent FROM duroxide_messages m LEFT JOIN duroxide_payloads p ON p.id = m.payload_ref
         WHERE m.instance = ?1 ORDER BY m.arrival"
    );
    sql.rows(find, [seq], |row| {
        let (_, read) = message(row)?;
        Ok(StoredMessage { row: read, stored_at: time(row, message::ARRIVED_AT)?, by_client: row.get(message::COUNT)? })
    })
}

fn activities_of(sql: &Sql, seq: i64) -> rusqlite::Result<Vec<StoredActivity>> {
    let find = concat!(
        "SELECT ",
        activity_key::list!(),
        ", ",
        activity::list!(),
        " FROM duroxide_activities a WHERE a.instance = ?1 ORDER BY a.execution, a.call"
    );
    let mut activities = sql.rows(find, [seq], stored_activity)?;
    for stored in activities.iter_mut().filter(|stored| stored.rejected.is_some()) {
        stored.rejected_by = rejections::builds(sql, (seq, int(stored.execution), int(stored.activity.call.0)))?;
    }
    Ok(activities)
}

fn stored_activity(row: &Row<'_>) -> rusqlite::Result<StoredActivity> {
    let at = |column: usize| activity_key::COUNT + column;
    Ok(StoredActivity {
        execution: natural(row, activity_key::EXECUTION)?,
        activity: NewActivity {
            call: CallId(natural(row, activity_key::CALL)?),
            scheduled: EventId(natural(row, at(activity::SCHEDULED))?),
            name: row.get(at(activity::NAME))?,
            tag: row.get(at(activity::TAG))?,
            detached: row.get(at(activity::DETACHED))?,
            eager: false,
            headers: text_map(row, at(activity::HEADERS))?,
        },
        attempt: row.get(at(activity::ATTEMPT))?,
        ready: read_ready(row.get(at(activity::VISIBLE_AT))?),
        rejected: row.get(at(activity::REJECTED))?,
        cause: row.get(at(activity::CAUSE))?,
        other_cause: row.get(at(activity::OTHER_CAUSE))?,
        rejected_by: Vec::new(),
        parked: row.get(at(activity::PARKED))?,
    })
}
