//! Rollouts: items that a build has rejected, and starts for the latest version.
//!
//! A build rejects an item that it cannot run, for example because its code does not fit the history. The item is left to
//! the other builds among the members, and is suspended (an instance) or parked (an activity) if none remains.

use rusqlite::Row;
use semver::Version;

use super::deliver::ready_by_messages;
use super::rows::{activity_key, epoch, instance_id, int};
use super::sql::Sql;
use super::tx::Tx;
use crate::id::{Epoch, InstanceId};
use crate::provider::{Lease, Tenure};

/// The condition that a member has the code of instance `i`, and a build that has not rejected it.
macro_rules! can_be_tried {
    () => {
        "EXISTS (
            SELECT 1 FROM duroxide_nodes n, json_each(n.orchestrations) h
            WHERE h.value ->> 0 = i.name AND (i.version IS NULL OR h.value ->> 1 = i.version) AND NOT EXISTS (
                SELECT 1 FROM duroxide_rejections r
                WHERE r.instance = i.seq AND r.execution = 0 AND r.call = 0 AND r.build = n.build))"
    };
}

/// The condition that a member has the code of activity `a`, and a build that has not rejected it.
macro_rules! activity_can_be_tried {
    () => {
        "EXISTS (
            SELECT 1 FROM duroxide_nodes n
            WHERE a.name IN (SELECT value FROM json_each(n.activities))
                AND (n.tags IS NULL OR a.tag IS NULL OR a.tag IN (SELECT value FROM json_each(n.tags)))
                AND NOT EXISTS (
                    SELECT 1 FROM duroxide_rejections r
                    WHERE r.instance = a.instance AND r.execution = a.execution AND r.call = a.call
                        AND r.build = n.build))"
    };
}

/// Sets an instance running again. All builds but those that have rejected it may claim it.
const RELEASE: &str = concat!(
    "UPDATE duroxide_instances AS i
     SET status = 'running', crashes = 0, alone = 0, suspect = 0, updated_at = ?2, ready_at = ",
    ready_by_messages!("?1"),
    " WHERE i.seq = ?1 AND i.status = 'suspended' AND ",
    can_be_tried!()
);

/// Makes an activity claimable. All builds but those that have rejected it may claim it.
const UNPARK: &str = concat!(
    "UPDATE duroxide_activities AS a SET parked = NULL, crashes = 0, alone = 0, suspect = 0
     WHERE a.instance = ?1 AND a.execution = ?2 AND a.call = ?3 AND a.parked IS NOT NULL AND ",
    activity_can_be_tried!()
);

/// Records that the build of a lease has rejected an instance, which is suspended. Releases it instead if a member can
/// try it. Returns true if it is released.
pub(super) fn reject(tx: &mut Tx<'_>, seq: i64, lease: Option<&Lease>) -> rusqlite::Result<bool> {
    record(tx, (seq, 0, 0), lease)?;
    let released = tx.sql.run(RELEASE, (seq, tx.latest_time().as_micros()))? > 0;
    tx.signals.work |= released;
    Ok(released)
}

/// Records that the build of a lease has rejected an activity, which is parked. Releases it instead if a member can try
/// it.
pub(super) fn reject_activity(tx: &mut Tx<'_>, seq: i64, lease: &Lease, tenure: &Tenure) -> rusqlite::Result<()> {
    let key = (seq, int(tenure.activity.execution.number), int(tenure.activity.call.0));
    record(tx, key, Some(lease))?;
    if tx.sql.run(UNPARK, key)? > 0 {
        tx.signals.work = true;
        touch(tx, seq)?;
    }
    Ok(())
}

/// Sets the time of the last change of an instance.
fn touch(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let update = "UPDATE duroxide_instances SET updated_at = ?2 WHERE seq = ?1";
    tx.sql.run(update, (seq, tx.latest_time().as_micros())).map(drop)
}

fn record(tx: &Tx<'_>, (seq, execution, call): (i64, i64, i64), lease: Option<&Lease>) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO duroxide_rejections (instance, execution, call, build)
        SELECT ?1, ?2, ?3, build FROM duroxide_nodes WHERE epoch = ?4";
    tx.sql.run(insert, (seq, execution, call, lease.map(|lease| int(lease.epoch.0)))).map(drop)
}

/// Suspends and parks the rejected items that no member can try, and releases those that a member can. Called when the
/// members have changed.
pub(super) fn settle(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    let latest = tx.latest_time().as_micros();
    let mut changed = Vec::new();
    let instance = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, instance_id(row, 1)?));
    let suspended = concat!(
        "SELECT i.seq, i.id FROM duroxide_instances i
         WHERE i.owner IS NULL AND i.status <> 'completed' AND i.status = 'suspended' AND ",
        can_be_tried!()
    );
    for (seq, id) in tx.sql.rows(suspended, [], instance)? {
        tx.sql.run(RELEASE, (seq, latest))?;
        changed.push(id);
    }
    let untried = concat!(
        "SELECT DISTINCT i.seq, i.id FROM duroxide_rejections t CROSS JOIN duroxide_instances i ON i.seq = t.instance
         WHERE t.execution = 0 AND i.owner IS NULL AND i.status = 'running' AND i.suspension IS NOT NULL AND NOT ",
        can_be_tried!()
    );
    for (seq, id) in tx.sql.rows(untried, [], instance)? {
        let suspend = "UPDATE duroxide_instances
            SET status = 'suspended', ready_at = NULL, crashes = 0, alone = 0, suspect = 0, updated_at = ?2 WHERE seq = ?1";
        tx.sql.run(suspend, (seq, latest))?;
        changed.push(id);
    }
    changed.append(&mut settle_activities(tx)?);
    for id in &changed {
        tx.signals.work = true;
        tx.signals.changed(id);
    }
    Ok(())
}

/// Parks and releases activities. Returns their instances.
fn settle_activities(tx: &Tx<'_>) -> rusqlite::Result<Vec<InstanceId>> {
    let mut changed = Vec::new();
    let activity = |row: &Row<'_>| Ok((activity_key(row)?, instance_id(row, activity_key::COUNT)?));
    let parked = concat!(
        "SELECT ",
        activity_key::list!(),
        ", i.id FROM duroxide_activities a CROSS JOIN duroxide_instances i ON i.seq = a.instance
         WHERE a.parked IS NOT NULL AND ",
        activity_can_be_tried!()
    );
    for (key, id) in tx.sql.rows(parked, [], activity)? {
        tx.sql.run(UNPARK, key)?;
        changed.push((key.0, id));
    }
    let untried = concat!(
        "SELECT DISTINCT ",
        activity_key::list!(),
        ", i.id FROM duroxide_rejections t
         CROSS JOIN duroxide_activities a ON a.instance = t.instance AND a.execution = t.execution AND a.call = t.call
         CROSS JOIN duroxide_instances i ON i.seq = a.instance
         WHERE a.owner IS NULL AND a.parked IS NULL AND a.rejected IS NOT NULL AND NOT ",
        activity_can_be_tried!()
    );
    for ((seq, execution, call), id) in tx.sql.rows(untried, [], activity)? {
        let park = "UPDATE duroxide_activities SET parked = rejected, crashes = 0, alone = 0, suspect = 0
            WHERE instance = ?1 AND execution = ?2 AND call = ?3";
        tx.sql.run(park, (seq, execution, call))?;
        changed.push((seq, id));
    }
    for (seq, _) in &changed {
        touch(tx, *seq)?;
    }
    Ok(changed.into_iter().map(|(_, id)| id).collect())
}

/// The members and their orchestrations, as JSON.
pub(super) struct MemberCode(Vec<(Epoch, String)>);

impl MemberCode {
    pub(super) fn read(sql: &Sql) -> rusqlite::Result<Self> {
        let find = "SELECT epoch, orchestrations FROM duroxide_nodes";
        let members = sql.rows(find, [], |row| Ok((epoch(row, 0)?, row.get(1)?)))?;
        Ok(Self(members.into_iter().filter_map(|(epoch, code)| Some((epoch?, code))).collect()))
    }

    pub(super) fn is_member(&self, epoch: Epoch) -> bool {
        self.0.iter().any(|(member, _)| *member == epoch)
    }

    /// Returns true if another member has a later version of an orchestration than the node of this epoch, so that a start
    /// without a version is left to that member.
    pub(super) fn is_outdated(&self, epoch: Epoch, name: &str) -> bool {
        let Some((_, own)) = self.0.iter().find(|(member, _)| *member == epoch) else { return false };
        // Outside of a rollout all members have the same code.
        let mut others = self.0.iter().filter(|(_, code)| code != own).map(|(_, code)| code).peekable();
        if others.peek().is_none() {
            return false;
        }
        let own = latest(own, name);
        others.any(|code| latest(code, name) > own)
    }
}

/// Returns the latest version of an orchestration in a list of orchestrations. An unreadable list counts as empty.
fn latest(orchestrations: &str, name: &str) -> Option<Version> {
    let all: Vec<(String, Version)> = serde_json::from_str(orchestrations).unwrap_or_default();
    all.into_iter().filter(|(n, _)| n == name).map(|(_, version)| version).max()
}
