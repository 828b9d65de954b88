//! Rejected items: instances and activities that a build cannot run, for example because its code does not fit the history.
//!
//! A rejected item is left to the other builds among the members. Once each build that could run it has rejected it, it is
//! suspended (an instance) or parked (an activity). It is checked again whenever the members change, in both directions.

use std::collections::{BTreeSet, HashMap, HashSet};

use duroxide::id::InstanceId;
use duroxide::provider::Signals;
use tokio_postgres::Row;

use crate::batch::{READY_REBUILD, UNREADY};
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rollout::Members;
use crate::rows::instance_id;
use crate::state::State;

/// Locks the instances that are rejected, or have rejected activities, in the order of all locks.
const LOCK: &str = "
    SELECT l.seq FROM live l
    WHERE (l.rejected IS NOT NULL AND l.owner IS NULL)
        OR l.seq IN (SELECT a.instance FROM activities a WHERE a.rejected IS NOT NULL AND a.owner IS NULL)
    ORDER BY l.id FOR NO KEY UPDATE";

const INSTANCES: &str = "
    SELECT l.seq, l.id, l.name, l.version, l.suspended FROM live l
    WHERE l.rejected IS NOT NULL AND l.owner IS NULL AND l.paused IS NULL";

const ACTIVITIES: &str = "
    SELECT a.instance, a.execution, a.call, i.id, a.name, a.tag, a.parked
    FROM activities a JOIN instances i ON i.seq = a.instance
    WHERE a.rejected IS NOT NULL AND a.owner IS NULL ORDER BY a.instance, a.execution, a.call FOR NO KEY UPDATE OF a";

const REJECTIONS: &str = "SELECT instance, execution, call, build FROM rejections";

/// Removes rejections without effect: those of instances that have advanced since, and of activities that have ended.
const STALE: &str = "
    DELETE FROM rejections x WHERE
        (x.execution = 0 AND NOT EXISTS (SELECT 1 FROM live l WHERE l.seq = x.instance AND l.rejected IS NOT NULL))
        OR (x.execution > 0 AND NOT EXISTS (SELECT 1 FROM activities a
            WHERE a.instance = x.instance AND a.execution = x.execution AND a.call = x.call))";

const SUSPEND: &str = "
    UPDATE live l SET suspended = t.suspended, updated_at = $3 FROM unnest($1::bigint[], $2::boolean[]) AS t (seq, suspended)
    WHERE l.seq = t.seq";
const STATUS: &str = "
    UPDATE instances i SET status = CASE WHEN t.suspended THEN 'suspended' ELSE 'running' END
    FROM unnest($1::bigint[], $2::boolean[]) AS t (seq, suspended) WHERE i.seq = t.seq";
const PARK: &str = "
    UPDATE activities a SET parked = t.parked, cause = a.other_cause, other_cause = a.cause
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[]) AS t (instance, execution, call, parked)
    WHERE a.instance = t.instance AND a.execution = t.execution AND a.call = t.call";
const TOUCH: &str = "UPDATE live SET updated_at = $2 WHERE seq = ANY ($1::bigint[])";
const TOUCH_FINISHED: &str = "UPDATE instances SET updated_at = $2 WHERE seq = ANY ($1::bigint[])";

type Key = (i64, i64, i64);

/// Suspends and parks the rejected items that no member can try, and releases those that a member can. The crashes of an
/// item are kept: the build that crashed may be one that joins again. The transaction holds the lock on the members, which
/// keeps others from rejecting items.
pub(super) async fn settle(connection: &Connection, state: &State) -> Result<Signals, Fault> {
    let steps = [step!(STALE), step!(LOCK), state.code.list(), step!(INSTANCES), step!(ACTIVITIES), step!(REJECTIONS)];
    let answers = connection.run(&steps).await?;
    let [_, _, members, instances, activities, rejections] = &answers[..] else {
        return Err(Fault::Unreadable("a change of the members has other answers".to_owned()));
    };
    let members = state.code.members(members)?;
    let mut rejected_by: HashMap<Key, HashSet<String>> = HashMap::new();
    for row in rejections {
        rejected_by.entry(key(row)?).or_default().insert(row.try_get("build")?);
    }
    let mut signals = Signals::default();
    let latest = state.latest().as_micros();
    let changes = instance_changes(instances, &members, &rejected_by, &mut signals)?;
    if !changes.is_empty() {
        let (seqs, suspended): (Vec<i64>, Vec<bool>) = changes.into_iter().unzip();
        let steps = [
            step!(SUSPEND, seqs.clone(), suspended.clone(), latest),
            step!(STATUS, seqs.clone(), suspended),
            step!(UNREADY, seqs.clone()),
            step!(READY_REBUILD, seqs),
        ];
        connection.run(&steps).await?;
    }
    let changes = activity_changes(activities, &members, &rejected_by, &mut signals)?;
    if !changes.is_empty() {
        let column = |value: fn(&Key) -> i64| changes.iter().map(|(key, _)| value(key)).collect::<Vec<_>>();
        let instances: BTreeSet<i64> = changes.iter().map(|((instance, ..), _)| *instance).collect();
        let instances: Vec<i64> = instances.into_iter().collect();
        let parked: Vec<bool> = changes.iter().map(|(_, parked)| *parked).collect();
        let steps = [
            step!(PARK, column(|key| key.0), column(|key| key.1), column(|key| key.2), parked),
            step!(TOUCH, instances.clone(), latest),
            step!(TOUCH_FINISHED, instances, latest),
        ];
        connection.run(&steps).await?;
    }
    Ok(signals)
}

/// Returns the instances whose status changes, with true for those that are suspended now.
fn instance_changes(
    rows: &[Row],
    members: &Members,
    rejected_by: &HashMap<Key, HashSet<String>>,
    signals: &mut Signals,
) -> Result<Vec<(i64, bool)>, Fault> {
    let none = HashSet::new();
    let mut changes = Vec::new();
    for row in rows {
        let seq: i64 = row.try_get("seq")?;
        let (name, version): (&str, Option<&str>) = (row.try_get("name")?, row.try_get("version")?);
        let can_be_tried = members.can_try(name, version, rejected_by.get(&(seq, 0, 0)).unwrap_or(&none));
        if row.try_get::<_, bool>("suspended")? == can_be_tried {
            changes.push((seq, !can_be_tried));
            changed(row, signals);
        }
    }
    Ok(changes)
}

/// Returns the activities that are parked or released, with true for those that are parked now.
fn activity_changes(
    rows: &[Row],
    members: &Members,
    rejected_by: &HashMap<Key, HashSet<String>>,
    signals: &mut Signals,
) -> Result<Vec<(Key, bool)>, Fault> {
    let none = HashSet::new();
    let mut changes = Vec::new();
    for row in rows {
        let key = key(row)?;
        let (name, tag): (&str, Option<&str>) = (row.try_get("name")?, row.try_get("tag")?);
        let can_be_tried = members.can_try_activity(name, tag, rejected_by.get(&key).unwrap_or(&none));
        if row.try_get::<_, bool>("parked")? == can_be_tried {
            changes.push((key, !can_be_tried));
            changed(row, signals);
        }
    }
    Ok(changes)
}

/// Signals a change. An id that cannot be read is left out: one such row must not prevent a change of the members.
fn changed(row: &Row, signals: &mut Signals) {
    signals.work = true;
    let id: Option<InstanceId> = instance_id(row, "id").ok();
    id.iter().for_each(|id| signals.changed(id));
}

fn key(row: &Row) -> Result<Key, Fault> {
    Ok((row.try_get("instance")?, row.try_get("execution")?, row.try_get("call")?))
}
