//! Instances: creating, releasing, resuming and removing them.

use super::activities::{self, Leaving};
use super::columns::columns;
use super::deliver::{self, ready_by_messages};
use super::fault::Refusal;
use super::removals::Removal;
use super::rows::{int, stored_ready, text_map, text_map_json, uuid};
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{CommitId, Epoch, ExecutionId, Identity, InstanceId};
use crate::provider::{CommitError, Committed, Lease, MessageRow, NewInstance, Placement, Ready, Turn};

/// Creates an instance with its start message. If it is eager, the epoch owns it, provided that the epoch is a member and
/// no other member has a later version. Returns `None` if the id is taken.
pub(super) fn create(
    tx: &mut Tx<'_>,
    new: &NewInstance,
    by: Option<Epoch>,
    time: Timestamp,
) -> rusqlite::Result<Option<Placement>> {
    let owner = match by.filter(|_| new.eager) {
        Some(by) if tx.members()?.is_member(by) && !is_outdated(tx, by, new)? => Some(by),
        _ => None,
    };
    let Some(seq) = insert(tx, new, owner, time, Begin::Start)? else { return Ok(None) };
    let number = first_number(&new.start);
    deliver::insert(tx, seq, &new.start, number, time, false)?;
    let Some(epoch) = owner else {
        tx.signals.work = true;
        return Ok(Some(Placement::Queued));
    };
    Ok(Some(Placement::Owned { epoch, identity: new.start.id.into(), number: number.map(i64::unsigned_abs) }))
}

/// Returns the number of a start message, unless it has a time of its own.
fn first_number(start: &MessageRow) -> Option<i64> {
    start.visible_at.is_none().then_some(1)
}

/// Returns true if an instance without a version is left to another member, which has a later one.
pub(super) fn is_outdated(tx: &mut Tx<'_>, by: Epoch, new: &NewInstance) -> rusqlite::Result<bool> {
    Ok(new.version.is_none() && tx.members()?.is_outdated(by, &new.name))
}

/// The state of an instance that is created.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a> {
    /// Its start message waits.
    Start,
    /// It has no message: a turn advances it afterwards.
    Turn,
    /// It has no message, and is as after its first turn.
    Advanced { commit: CommitId, turn: &'a Turn },
}

/// Inserts an instance, without its message. Returns `None` if the id is taken.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    new: &NewInstance,
    owner: Option<Epoch>,
    time: Timestamp,
    begin: Begin<'_>,
) -> rusqlite::Result<Option<i64>> {
    let insert = "INSERT INTO duroxide_instances
        (seq, id, name, version, owner, created_at, updated_at, start_id, labels, parent, parent_identity,
         parent_execution, parent_call, last_event, last_commit, arrivals, ready_at, waits, waits_since, waits_until,
         period)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
        ON CONFLICT (id) DO NOTHING";
    let parent = new.parent.as_ref();
    let first = match begin {
        Begin::Advanced { commit, turn } => Some((commit, turn)),
        Begin::Start | Begin::Turn => None,
    };
    let is_start = matches!(begin, Begin::Start);
    let arrivals = first_number(&new.start).filter(|_| is_start).unwrap_or(0);
    let ready = (is_start && owner.is_none()).then(|| stored_ready(Ready::by_message(new.start.visible_at, time)));
    let version = first.and_then(|(_, turn)| turn.version.as_ref()).or(new.version.as_ref());
    let waits = first.and_then(|(_, turn)| turn.waits.as_ref());
    let params = rusqlite::params![
        tx.number_of_new_instance()?,
        new.instance.as_str(),
        &new.name,
        version.map(ToString::to_string),
        owner.map(|owner| int(owner.0)),
        time.as_micros(),
        new.start.id.0.as_bytes(),
        text_map_json(&new.labels),
        parent.map(|parent| parent.execution.instance.as_str()),
        parent.map(|parent| parent.execution.identity.0.into_bytes()),
        parent.map(|parent| int(parent.execution.number)),
        parent.map(|parent| int(parent.call.0)),
        first.map_or(0, |(_, turn)| int(turn.last_event().0)),
        first.map(|(commit, _)| commit.0.into_bytes()),
        arrivals,
        ready,
        waits.map(|waits| waits.text.as_str()),
        waits.map(|waits| waits.since.as_micros()).filter(|since| *since != time.as_micros()),
        waits.and_then(|waits| waits.until).map(|until| until.as_micros()),
        tx.period()?,
    ];
    if tx.sql.run(insert, params)? == 0 {
        return Ok(None);
    }
    let seq = tx.sql.connection().last_insert_rowid();
    for (name, value) in &new.labels {
        let insert = "INSERT INTO duroxide_labels (name, value, instance) VALUES (?1, ?2, ?3)";
        tx.sql.run(insert, (name, value, seq))?;
    }
    Ok(Some(seq))
}

/// Releases an instance if the lease has no live copy of it.
pub(super) fn release(
    tx: &mut Tx<'_>,
    lease: &Lease,
    execution: &ExecutionId,
    claim: u64,
) -> Result<Committed, Refusal<CommitError>> {
    let update = concat!(
        "UPDATE duroxide_instances SET owner = NULL, alone = 0, ready_at = ",
        ready_by_messages!("duroxide_instances.seq"),
        " WHERE id = ?1 AND start_id = ?2 AND owner = ?3 AND claim = ?4 RETURNING ready_at"
    );
    let (id, identity, epoch) = (execution.instance.as_str(), execution.identity.0.as_bytes(), int(lease.epoch.0));
    let params = (id, identity, epoch, int(claim));
    let Some(ready_at) = tx.sql.row(update, params, |row| row.get::<_, Option<i64>>(0))? else {
        let find = "SELECT owner FROM duroxide_instances WHERE id = ?1 AND start_id = ?2";
        let owner: Option<i64> = tx.sql.row(find, (id, identity), |row| row.get(0))?.flatten();
        let error = if owner == Some(epoch) { CommitError::Conflict } else { CommitError::Fenced };
        return Err(Refusal::Refused(error));
    };
    tx.signals.work |= ready_at.is_some();
    Ok(Committed::default())
}

/// Sets the time at which an instance without an owner is ready to that of its remaining messages.
pub(super) fn settle_ready(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let update = concat!(
        "UPDATE duroxide_instances SET ready_at = ",
        ready_by_messages!("?1"),
        " WHERE seq = ?1 AND ready_at IS NOT NULL AND status = 'running'"
    );
    tx.sql.run(update, [seq]).map(drop)
}

/// Resumes a suspended instance, which each build may try again. Returns true if it was suspended.
pub(super) fn resume(tx: &mut Tx<'_>, seq: i64, time: Timestamp) -> rusqlite::Result<bool> {
    let update = concat!(
        "UPDATE duroxide_instances SET status = 'running', paused = NULL, suspension = NULL, cause = NULL, crashes = 0,
            alone = 0, suspect = 0,
            updated_at = ?2, ready_at = ",
        ready_by_messages!("?1"),
        " WHERE seq = ?1 AND status = 'suspended'"
    );
    let resumed = tx.sql.run(update, (seq, time.as_micros()))? > 0;
    if resumed {
        tx.sql.run("DELETE FROM duroxide_rejections WHERE instance = ?1 AND execution = 0", [seq])?;
        tx.signals.work = true;
    }
    Ok(resumed)
}

columns! {
    mod removed { LABELS = "labels", START_ID = "start_id", PERIOD = "period" }
}

/// Removes an instance and all its rows.
pub(super) fn remove(tx: &mut Tx<'_>, id: &InstanceId, seq: i64) -> rusqlite::Result<()> {
    let find = concat!("SELECT ", removed::list!(), " FROM duroxide_instances WHERE seq = ?1");
    let found = tx.sql.row(find, [seq], |row| {
        Ok((text_map(row, removed::LABELS).ok(), uuid(row, removed::START_ID)?, row.get(removed::PERIOD)?))
    })?;
    let Some((labels, start, period)) = found else { return Ok(()) };
    activities::remove_all(tx, &Leaving { id, identity: Identity(start), seq, by: None }, None)?;
    deliver::sweep(tx, seq, None)?;
    tx.record_start(start, period)?;
    if labels.is_none() {
        // The JSON cannot be read. Find the rows by a scan of all labels.
        tx.sql.run("DELETE FROM duroxide_labels WHERE instance = ?1", [seq])?;
    }
    for (name, value) in labels.unwrap_or_default() {
        let delete = "DELETE FROM duroxide_labels WHERE name = ?1 AND value = ?2 AND instance = ?3";
        tx.sql.run(delete, (name, value, seq))?;
    }
    for delete in [
        "DELETE FROM duroxide_rejections WHERE instance = ?1",
        "DELETE FROM duroxide_mail WHERE owner IN (SELECT epoch FROM duroxide_nodes) AND instance = ?1",
        "DELETE FROM duroxide_instances WHERE seq = ?1",
    ] {
        tx.sql.run(delete, [seq])?;
    }
    Removal { instance: seq, execution: 0 }.begin(tx)?;
    tx.signals.changed(id);
    Ok(())
}
