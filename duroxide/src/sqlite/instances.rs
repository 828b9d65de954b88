//! Instances: made, resumed, removed.

use rusqlite::named_params;

use super::activities;
use super::deliver::{self, Target, ready_by_messages};
use super::rows::{int, natural, text_map, text_map_json, uuid};
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{Epoch, InstanceId};
use crate::provider::{InstanceStatus, Lease, NewInstance, Placement};

/// Creates an instance with its start message, owned by the epoch if it is to be eager and the epoch is a member; with the
/// number of its first execution. `None`: the id is taken.
pub(super) fn create(
    tx: &mut Tx<'_>,
    new: &NewInstance,
    by: Option<Epoch>,
    time: Timestamp,
) -> rusqlite::Result<Option<(Placement, u64)>> {
    let owner = match by.filter(|_| new.eager) {
        Some(by) if is_member(tx, by)? => Some(by),
        _ => None,
    };
    let execution = first_execution(tx, &new.instance)?;
    let Some(seq) = insert(tx, new, execution, owner, time)? else { return Ok(None) };
    let target = Target { seq, status: InstanceStatus::Running, execution, owner };
    target.deliver(tx, &new.start, time, false).map(|placement| Some((placement, execution)))
}

/// The number of the first execution of an instance that takes an id. What is left of one that was removed, such as an
/// activity that still runs somewhere, is not taken for its own.
pub(super) fn first_execution(tx: &Tx<'_>, id: &InstanceId) -> rusqlite::Result<u64> {
    let find = "SELECT execution FROM duroxide_removed WHERE id = ?1";
    Ok(tx.sql.row(find, [id.as_str()], |row| natural(row, 0))?.unwrap_or(0) + 1)
}

/// Whether the epoch is that of a member.
pub(super) fn is_member(tx: &Tx<'_>, epoch: Epoch) -> rusqlite::Result<bool> {
    let find = "SELECT EXISTS (SELECT 1 FROM duroxide_nodes WHERE epoch = ?1)";
    Ok(tx.sql.row(find, [int(epoch.0)], |row| row.get(0))?.unwrap_or(false))
}

/// Inserts an instance without messages. `None`: the id is taken.
pub(super) fn insert(
    tx: &Tx<'_>,
    new: &NewInstance,
    execution: u64,
    owner: Option<Epoch>,
    time: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    let insert = "INSERT INTO duroxide_instances
        (id, name, version, execution, owner, created_at, updated_at, start_id, labels, parent, parent_execution, parent_call)
        VALUES (:id, :name, :version, :execution, :owner, :time, :time, :start, :labels, :parent, :parent_execution,
                :parent_call)
        ON CONFLICT (id) DO NOTHING";
    let parent = new.parent.as_ref();
    let params = named_params! {
        ":id": new.instance.as_str(), ":name": new.name, ":version": new.version.as_ref().map(ToString::to_string),
        ":execution": int(execution),
        ":owner": owner.map(|owner| int(owner.0)), ":time": time.as_micros(),
        ":start": new.start.id.0.as_bytes(), ":labels": text_map_json(&new.labels),
        ":parent": parent.map(|parent| parent.execution.instance.as_str()),
        ":parent_execution": parent.map(|parent| int(parent.execution.number)),
        ":parent_call": parent.map(|parent| int(parent.call.0)),
    };
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

/// Notes that the build of a lease was tried on an instance.
pub(super) fn tried(tx: &Tx<'_>, seq: i64, lease: Option<&Lease>) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO duroxide_tried (instance, build)
        SELECT ?1, build FROM duroxide_nodes WHERE epoch = ?2";
    tx.sql.run(insert, (seq, lease.map(|lease| int(lease.epoch.0)))).map(drop)
}

/// Lets a suspended instance run again.
pub(super) fn resume(tx: &mut Tx<'_>, seq: i64, time: Timestamp) -> rusqlite::Result<bool> {
    let update = concat!(
        "UPDATE duroxide_instances SET status = 'running', suspension = NULL, crashes = 0, alone = 0, suspect = 0,
            updated_at = ?2, ready_at = ",
        ready_by_messages!("?1"),
        " WHERE seq = ?1 AND status = 'suspended'"
    );
    let resumed = tx.sql.run(update, (seq, time.as_micros()))? > 0;
    tx.signals.work |= resumed;
    Ok(resumed)
}

/// Removes an instance with all that belongs to it.
pub(super) fn remove(tx: &mut Tx<'_>, id: &InstanceId, seq: i64) -> rusqlite::Result<()> {
    activities::sweep(tx, id, seq, None)?;
    deliver::sweep(tx, seq, None)?;
    let find = "SELECT labels, start_id, execution FROM duroxide_instances WHERE seq = ?1";
    let found = tx.sql.row(find, [seq], |row| Ok((text_map(row, 0).ok(), uuid(row, 1)?, natural(row, 2)?)))?;
    let Some((labels, start, execution)) = found else { return Ok(()) };
    // Its start may come once more.
    tx.remember(start)?;
    tx.remember_removed(id, execution)?;
    if labels.is_none() {
        // The JSON cannot be read: the rows are found by a walk through all labels.
        tx.sql.run("DELETE FROM duroxide_labels WHERE instance = ?1", [seq])?;
    }
    for (name, value) in labels.unwrap_or_default() {
        let delete = "DELETE FROM duroxide_labels WHERE name = ?1 AND value = ?2 AND instance = ?3";
        tx.sql.run(delete, (name, value, seq))?;
    }
    for delete in [
        "DELETE FROM duroxide_events WHERE instance = ?1",
        "DELETE FROM duroxide_executions WHERE instance = ?1",
        "DELETE FROM duroxide_payloads WHERE instance = ?1",
        "DELETE FROM duroxide_tried WHERE instance = ?1",
        "DELETE FROM duroxide_instances WHERE seq = ?1",
    ] {
        tx.sql.run(delete, [seq])?;
    }
    tx.signals.changed(id);
    Ok(())
}
