//! Rejected items: instances and activities that a build cannot run, for example because its code does not fit the
//! history.
//!
//! A rejected item is left for members that run another build. Once each build that could run it has rejected it, it is
//! suspended (an instance) or parked (an activity). It is checked again whenever the members change, in both directions.

use rusqlite::Row;

use super::activities;
use super::columns::columns;
use super::deliver::ready_by_messages;
use super::member_code::Builds;
use super::rows::{ActivityKey, activity_key, instance_id, int};
use super::tx::Tx;
use crate::id::InstanceId;
use crate::provider::{Lease, Tenure};

columns! {
    /// A rejected instance `i`.
    mod instance {
        SEQ = "i.seq",
        ID = "i.id",
        NAME = "i.name",
        VERSION = "i.version",
        REJECTED_BY = "(SELECT json_group_array(r.build) FROM duroxide_rejections r
            WHERE r.instance = i.seq AND r.execution = 0 AND r.call = 0)",
    }
}

columns! {
    /// A rejected activity `a` of an instance `i`. The columns follow its key.
    mod activity {
        ID = "i.id",
        NAME = "a.name",
        TAG = "a.tag",
        REJECTED_BY = "(SELECT json_group_array(r.build) FROM duroxide_rejections r
            WHERE r.instance = a.instance AND r.execution = a.execution AND r.call = a.call)",
    }
}

/// Selects rejected instances.
macro_rules! instances {
    ($from:literal) => {
        concat!("SELECT ", instance::list!(), " FROM ", $from)
    };
}
const INSTANCE: &str = instances!("duroxide_instances i WHERE i.seq = ?1");
const SUSPENDED: &str = instances!(
    "duroxide_instances i WHERE i.owner IS NULL AND i.status <> 'completed' AND i.status = 'suspended'
     AND i.paused IS NULL"
);
/// Those that are left to other builds.
const RUNNING: &str = instances!(
    "(SELECT DISTINCT instance FROM duroxide_rejections WHERE execution = 0) t
     CROSS JOIN duroxide_instances i ON i.seq = t.instance
     WHERE i.owner IS NULL AND i.status = 'running' AND i.suspension IS NOT NULL"
);

/// Selects rejected activities.
macro_rules! activities {
    ($from:literal) => {
        concat!("SELECT ", activity_key::list!(), ", ", activity::list!(), " FROM ", $from)
    };
}
const ACTIVITY: &str = activities!(
    "duroxide_activities a JOIN duroxide_instances i ON i.seq = a.instance
     WHERE a.instance = ?1 AND a.execution = ?2 AND a.call = ?3"
);
const PARKED: &str = activities!(
    "duroxide_activities a CROSS JOIN duroxide_instances i ON i.seq = a.instance WHERE a.parked IS NOT NULL"
);
/// Those that are left to other builds.
const QUEUED: &str = activities!(
    "(SELECT DISTINCT instance, execution, call FROM duroxide_rejections WHERE execution > 0) t
     CROSS JOIN duroxide_activities a ON a.instance = t.instance AND a.execution = t.execution AND a.call = t.call
     CROSS JOIN duroxide_instances i ON i.seq = a.instance
     WHERE a.owner IS NULL AND a.parked IS NULL AND a.rejected IS NOT NULL"
);

/// Sets an instance running again.
const RELEASE: &str = concat!(
    "UPDATE duroxide_instances SET status = 'running', updated_at = ?2, ready_at = ",
    ready_by_messages!("?1"),
    " WHERE seq = ?1"
);

/// Makes a parked activity claimable. It shows its last failed attempt again.
const UNPARK: &str = "UPDATE duroxide_activities SET parked = NULL, cause = other_cause, other_cause = cause
    WHERE instance = ?1 AND execution = ?2 AND call = ?3";

/// Forgets the rejections of an instance that has advanced since the last one: each build may try it again. Called before
/// the instance is rejected, so that turns which advance an instance need not do so.
pub(super) fn forget_stale(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let forget = "DELETE FROM duroxide_rejections WHERE instance = ?1 AND execution = 0
        AND EXISTS (SELECT 1 FROM duroxide_instances WHERE seq = ?1 AND suspension IS NULL)";
    tx.sql.run(forget, [seq]).map(drop)
}

/// Records that the build of a lease has rejected an instance, which is suspended. Releases it instead if a member can
/// try it. Returns true if it is released.
pub(super) fn reject(tx: &mut Tx<'_>, seq: i64, lease: Option<&Lease>) -> rusqlite::Result<bool> {
    record(tx, (seq, 0, 0), lease)?;
    let builds = Builds::read(&tx.sql)?;
    let released = tx.sql.row(INSTANCE, [seq], |row| can_try(&builds, row))? == Some(true);
    if released {
        tx.sql.run(RELEASE, (seq, tx.latest_time().as_micros()))?;
        tx.signals.work = true;
    }
    Ok(released)
}

/// Records that the build of a lease has rejected an activity, which is parked. Releases it instead if a member can try
/// it.
pub(super) fn reject_activity(tx: &mut Tx<'_>, seq: i64, lease: &Lease, tenure: &Tenure) -> rusqlite::Result<()> {
    let key = activities::key(seq, tenure);
    record(tx, key, Some(lease))?;
    let builds = Builds::read(&tx.sql)?;
    if tx.sql.row(ACTIVITY, key, |row| can_try_activity(&builds, row))? == Some(true) {
        tx.sql.run(UNPARK, key)?;
        touch(tx, seq)?;
        tx.signals.work = true;
    }
    Ok(())
}

fn record(tx: &Tx<'_>, (seq, execution, call): ActivityKey, lease: Option<&Lease>) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO duroxide_rejections (instance, execution, call, build)
        SELECT ?1, ?2, ?3, build FROM duroxide_nodes WHERE epoch = ?4";
    tx.sql.run(insert, (seq, execution, call, lease.map(|lease| int(lease.epoch.0)))).map(drop)
}

/// Returns the builds that have rejected an item: an instance (execution 0, call 0) or an activity.
pub(super) fn builds(sql: &super::sql::Sql, key: ActivityKey) -> rusqlite::Result<Vec<String>> {
    let find =
        "SELECT build FROM duroxide_rejections WHERE instance = ?1 AND execution = ?2 AND call = ?3 ORDER BY build";
    sql.rows(find, key, |row| row.get(0))
}

/// Sets the time of the last change of an instance.
fn touch(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let update = "UPDATE duroxide_instances SET updated_at = ?2 WHERE seq = ?1";
    tx.sql.run(update, (seq, tx.latest_time().as_micros())).map(drop)
}

/// Releases the parked activities of an instance that is resumed, and forgets their rejections: each build may try them
/// again. Returns true if there are any.
pub(super) fn resume_activities(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<bool> {
    let forget = "DELETE FROM duroxide_rejections AS r WHERE r.instance = ?1 AND r.execution > 0 AND EXISTS (
        SELECT 1 FROM duroxide_activities a WHERE a.instance = r.instance AND a.execution = r.execution
            AND a.call = r.call AND a.parked IS NOT NULL)";
    tx.sql.run(forget, [seq])?;
    let unpark =
        "UPDATE duroxide_activities SET parked = NULL, rejected = NULL, cause = other_cause, other_cause = NULL,
            crashes = 0, alone = 0, suspect = 0
        WHERE instance = ?1 AND parked IS NOT NULL";
    Ok(tx.sql.run(unpark, [seq])? > 0)
}

/// Suspends and parks the rejected items that no member can try, and releases those that a member can. Called when the
/// members have changed. The crashes of an item are kept: the build that crashed may be one that joins again.
pub(super) fn settle(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    sweep(tx)?;
    let builds = Builds::read(&tx.sql)?;
    let mut changed = settle_instances(tx, &builds)?;
    changed.append(&mut settle_activities(tx, &builds)?);
    for id in changed {
        tx.signals.work = true;
        tx.signals.changed(&id);
    }
    Ok(())
}

/// Removes rejections without effect: those of instances that have advanced since, and of activities that have ended.
fn sweep(tx: &Tx<'_>) -> rusqlite::Result<()> {
    let sweep_instances = "DELETE FROM duroxide_rejections AS r WHERE r.execution = 0 AND NOT EXISTS (
        SELECT 1 FROM duroxide_instances i WHERE i.seq = r.instance AND i.suspension IS NOT NULL)";
    let sweep_activities = "DELETE FROM duroxide_rejections AS r WHERE r.execution > 0 AND NOT EXISTS (
        SELECT 1 FROM duroxide_activities a
        WHERE a.instance = r.instance AND a.execution = r.execution AND a.call = r.call)";
    tx.sql.run(sweep_instances, [])?;
    tx.sql.run(sweep_activities, []).map(drop)
}

/// Suspends and releases instances. Returns those that have changed.
fn settle_instances(tx: &Tx<'_>, builds: &Builds) -> rusqlite::Result<Vec<InstanceId>> {
    let latest = tx.latest_time().as_micros();
    let released = select(tx, SUSPENDED, |row| Ok(can_try(builds, row)?.then_some(instance_key(row)?)))?;
    for (seq, _) in &released {
        tx.sql.run(RELEASE, (seq, latest))?;
    }
    let untried = select(tx, RUNNING, |row| Ok((!can_try(builds, row)?).then_some(instance_key(row)?)))?;
    for (seq, _) in &untried {
        let suspend =
            "UPDATE duroxide_instances SET status = 'suspended', ready_at = NULL, updated_at = ?2 WHERE seq = ?1";
        tx.sql.run(suspend, (seq, latest))?;
    }
    Ok(released.into_iter().chain(untried).filter_map(|(_, id)| id).collect())
}

/// Parks and releases activities. Returns the instances of those that have changed.
fn settle_activities(tx: &Tx<'_>, builds: &Builds) -> rusqlite::Result<Vec<InstanceId>> {
    let released = select(tx, PARKED, |row| {
        Ok(can_try_activity(builds, row)?.then_some((activity_key(row)?, activity_instance(row))))
    })?;
    for (key, _) in &released {
        tx.sql.run(UNPARK, *key)?;
    }
    let untried = select(tx, QUEUED, |row| {
        Ok((!can_try_activity(builds, row)?).then_some((activity_key(row)?, activity_instance(row))))
    })?;
    for (key, _) in &untried {
        let park = "UPDATE duroxide_activities SET parked = rejected, cause = other_cause, other_cause = cause
            WHERE instance = ?1 AND execution = ?2 AND call = ?3";
        tx.sql.run(park, *key)?;
    }
    let changed: Vec<_> = released.into_iter().chain(untried).collect();
    for ((seq, ..), _) in &changed {
        touch(tx, *seq)?;
    }
    Ok(changed.into_iter().filter_map(|(_, id)| id).collect())
}

/// Returns the rows that `choose` selects. The others are not kept, because there may be many.
fn select<T>(
    tx: &Tx<'_>,
    find: &str,
    choose: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<Vec<T>> {
    let mut chosen = Vec::new();
    tx.sql.each(find, [], |row| {
        chosen.extend(choose(row)?);
        Ok(true)
    })?;
    Ok(chosen)
}

/// Returns true if a member can try the instance of a row.
fn can_try(builds: &Builds, row: &Row<'_>) -> rusqlite::Result<bool> {
    let (name, version) = (row.get_ref(instance::NAME)?.as_str()?, row.get_ref(instance::VERSION)?.as_str_or_null()?);
    Ok(builds.can_try(name, version, &rejected_by(row, instance::REJECTED_BY)?))
}

/// Returns true if a member can try the activity of a row.
fn can_try_activity(builds: &Builds, row: &Row<'_>) -> rusqlite::Result<bool> {
    let column = |column: usize| row.get_ref(activity_key::COUNT + column);
    let (name, tag) = (column(activity::NAME)?.as_str()?, column(activity::TAG)?.as_str_or_null()?);
    Ok(builds.can_try_activity(name, tag, &rejected_by(row, activity_key::COUNT + activity::REJECTED_BY)?))
}

fn rejected_by(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    super::rows::parsed(row, column, |json: String| serde_json::from_str(&json))
}

/// Returns the number of an instance and its id, unless that cannot be read: one such row must not prevent a change of the
/// members.
fn instance_key(row: &Row<'_>) -> rusqlite::Result<(i64, Option<InstanceId>)> {
    Ok((row.get(instance::SEQ)?, instance_id(row, instance::ID).ok()))
}

fn activity_instance(row: &Row<'_>) -> Option<InstanceId> {
    instance_id(row, activity_key::COUNT + activity::ID).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_of_the_members_reads_only_rejected_items() {
        let connection = crate::sqlite::schema::in_memory();
        for (query, index) in [
            (SUSPENDED, "SEARCH i USING INDEX duroxide_instances_live (status=?)"),
            (RUNNING, "SEARCH i USING INTEGER PRIMARY KEY (rowid=?)"),
            (PARKED, "a USING INDEX duroxide_activities_parked"),
            (QUEUED, "SEARCH a USING PRIMARY KEY (instance=? AND execution=? AND call=?)"),
        ] {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let plan: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
            assert!(plan.iter().any(|step| step.contains(index)), "{index} is not used: {plan:#?}");
        }
    }
}
