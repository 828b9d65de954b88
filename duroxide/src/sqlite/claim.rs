//! Finding the items that a node may claim, and claiming them.

use super::rollout::MemberCode;
use super::rows::{ActivityKey, FIRST_TIME, activity_key, int, read_ready};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::Epoch;
use crate::provider::{Lease, QUARANTINE, Ready, Want};

/// Free instances and activities, found but not yet claimed.
#[derive(Clone)]
pub(super) struct Claims {
    lease: Lease,
    /// The previous claim of the lease.
    last: u64,
    alone: bool,
    instances: Vec<FreeInstance>,
    activities: Vec<FreeActivity>,
}

#[derive(Clone)]
struct FreeInstance {
    since: Timestamp,
    seq: i64,
    name: String,
    version: Option<String>,
}

#[derive(Clone)]
struct FreeActivity {
    since: Timestamp,
    key: ActivityKey,
}

/// The conditions for items that may be claimed together with others, and for quarantined ones. An item in quarantine
/// ([`QUARANTINE`]) is claimed alone. A suspect item has already crashed alone; it is claimed like others, and the node
/// suspends it instead of running it. Quarantined items have their own indexes, so the search for them does not read
/// other items.
const FREE: &str = "(crashes < 3 OR suspect = 1)";
const QUARANTINED: &str = "crashes >= 3 AND suspect = 0";
const _: () = assert!(QUARANTINE == 3, "the conditions and the indexes of the schema repeat this number");

impl Claims {
    pub(super) fn new(lease: Lease, want: &Want) -> Self {
        Self { lease, last: want.claim, alone: false, instances: Vec::new(), activities: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.activities.is_empty()
    }

    pub(super) fn epoch(&self) -> i64 {
        int(self.lease.epoch.0)
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = i64> {
        self.instances.iter().map(|instance| instance.seq)
    }

    pub(super) fn activities(&self) -> impl Iterator<Item = ActivityKey> {
        self.activities.iter().map(|activity| activity.key)
    }

    /// Finds the requested number of items, oldest first. Returns the time at which another item is due, if there is
    /// one.
    pub(super) fn find(&mut self, sql: &Sql, want: &Want) -> rusqlite::Result<Option<Timestamp>> {
        let mut next_due = None;
        let mut rest = |since: Timestamp| next_due = next_due.into_iter().chain([since]).min();
        let mut instances = match want.instances {
            0 => Vec::new(),
            limit => free_instances(sql, self.lease.epoch, want, FREE, limit.saturating_add(1))?,
        };
        instances.sort_by_key(|instance| instance.since);
        let due = instances.partition_point(|instance| instance.since <= want.now).min(want.instances);
        instances.get(due).map(|first| first.since).into_iter().for_each(&mut rest);
        instances.truncate(due);
        self.instances = instances;
        for group in want.activities.iter().filter(|group| group.limit > 0) {
            let mut free = Vec::new();
            for name in &*group.names {
                free.extend(free_activities(sql, self.lease.epoch, want, name, FREE, group.limit.saturating_add(1))?);
            }
            sort(&mut free);
            let due = free.partition_point(|activity| activity.since <= want.now).min(group.limit);
            free.get(due).map(|first| first.since).into_iter().for_each(&mut rest);
            self.activities.extend(free.into_iter().take(due));
        }
        sort(&mut self.activities);
        Ok(next_due)
    }

    /// Finds the oldest due item in quarantine. Returns true if there is one.
    pub(super) fn find_quarantined(&mut self, sql: &Sql, want: &Want) -> rusqlite::Result<bool> {
        if sql.row(&any_quarantined(), [], |row| row.get(0))? != Some(true) {
            return Ok(false);
        }
        let due = |since: Timestamp| since <= want.now;
        if want.instances > 0 {
            let instances = free_instances(sql, self.lease.epoch, want, QUARANTINED, 1)?;
            self.instances.extend(instances.into_iter().filter(|i| due(i.since)).min_by_key(|i| i.since));
        }
        if self.instances.is_empty() {
            let mut free = Vec::new();
            for name in want.activities.iter().filter(|group| group.limit > 0).flat_map(|group| &*group.names) {
                free.extend(free_activities(sql, self.lease.epoch, want, name, QUARANTINED, 1)?);
            }
            self.activities.extend(free.into_iter().filter(|a| due(a.since)).min_by_key(|a| a.since));
        }
        self.alone = !self.is_empty();
        Ok(self.alone)
    }

    /// Finds the items of an earlier claim that the lease still owns.
    pub(super) fn repeat(&mut self, sql: &Sql, claim: u64) -> rusqlite::Result<()> {
        let params = (self.epoch(), int(claim));
        let instances = "SELECT seq FROM duroxide_instances WHERE owner = ?1 AND claim = ?2";
        let since = Timestamp::from_micros(0);
        self.instances = sql.rows(instances, params, |row| {
            Ok(FreeInstance { since, seq: row.get(0)?, name: String::new(), version: None })
        })?;
        let activities = concat!(
            "SELECT ",
            activity_key::list!(),
            " FROM duroxide_activities a WHERE a.owner = ?1 AND a.claim = ?2"
        );
        self.activities = sql.rows(activities, params, |row| Ok(FreeActivity { since, key: activity_key(row)? }))?;
        Ok(())
    }

    /// Claims the items that are still free, and drops the others. Returns the number of the claim, or `None` if the
    /// lease has ended or has made another claim in the meantime.
    pub(super) fn take(mut self, tx: &Tx<'_>) -> rusqlite::Result<Option<(u64, Self)>> {
        let (epoch, alone, claim) = (self.epoch(), self.alone, int(self.last + 1));
        let count = "UPDATE duroxide_nodes SET claim = ?2 WHERE epoch = ?1 AND claim = ?3";
        if tx.sql.run(count, (epoch, claim, int(self.last)))? == 0 {
            return Ok(None);
        }
        let mut failed = Ok(());
        let mut took = |changed: rusqlite::Result<usize>| match changed {
            Ok(rows) => rows > 0,
            Err(error) => {
                failed = Err(error);
                false
            }
        };
        self.instances.retain(|instance| {
            let update = "UPDATE duroxide_instances SET owner = ?1, claim = ?2, alone = ?3, ready_at = NULL
                WHERE seq = ?4 AND owner IS NULL AND ready_at IS NOT NULL AND name = ?5 AND version IS ?6";
            took(tx.sql.run(update, (epoch, claim, alone, instance.seq, &instance.name, &instance.version)))
        });
        self.activities.retain(|activity| {
            let update = "UPDATE duroxide_activities SET owner = ?1, claim = ?2, alone = ?3
                WHERE instance = ?4 AND execution = ?5 AND call = ?6 AND owner IS NULL AND parked IS NULL";
            let (seq, execution, call) = activity.key;
            took(tx.sql.run(update, (epoch, claim, alone, seq, execution, call)))
        });
        failed.map(|()| Some((self.last + 1, self)))
    }
}

/// Sorts activities, oldest first.
fn sort(activities: &mut [FreeActivity]) {
    activities.sort_by_key(|activity| activity.since);
}

/// Returns the query that checks if any item is in quarantine.
fn any_quarantined() -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM duroxide_instances WHERE owner IS NULL AND ready_at IS NOT NULL AND {QUARANTINED})
             OR EXISTS (SELECT 1 FROM duroxide_activities WHERE owner IS NULL AND parked IS NULL AND {QUARANTINED})"
    )
}

/// Reads the first `limit` items of a queue, including those that are not due yet. `read` takes the lowest `ready_at`
/// and a limit. Items that are ready at once sort before all times, so they could fill the limit and hide an older item
/// with a time of its own; in that case those are read separately.
fn first<T>(
    limit: usize,
    now: Timestamp,
    read: impl Fn(i64, i64) -> rusqlite::Result<Vec<(Ready, T)>>,
) -> rusqlite::Result<Vec<(Timestamp, T)>> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = read(i64::MIN, most)?;
    let at_once = found.iter().take_while(|(ready, _)| matches!(ready, Ready::AtOnce(_))).count();
    if at_once > 0 && found.len() == limit {
        found.truncate(at_once);
        found.extend(read(FIRST_TIME, most)?);
    }
    Ok(found.into_iter().map(|(ready, item)| (ready.since(now), item)).collect())
}

/// Reads the first free instances of each requested orchestration, including those that are not due yet. Leaves out those
/// that the build of the node has rejected, and those without a version if another member has a later one.
fn free_instances(
    sql: &Sql,
    epoch: Epoch,
    want: &Want,
    condition: &str,
    limit: usize,
) -> rusqlite::Result<Vec<FreeInstance>> {
    let find = format!(
        "SELECT ready_at, seq FROM duroxide_instances
         WHERE owner IS NULL AND ready_at IS NOT NULL AND name = ?1 AND version IS ?2 AND ready_at >= ?3
             AND {condition} AND (suspension IS NULL OR NOT EXISTS (
                SELECT 1 FROM duroxide_rejections r JOIN duroxide_nodes n ON n.build = r.build
                WHERE r.instance = seq AND r.execution = 0 AND r.call = 0 AND n.epoch = ?5))
         ORDER BY ready_at LIMIT ?4"
    );
    let mut free = Vec::new();
    let mut of = |name: &str, version: Option<String>| -> rusqlite::Result<()> {
        let read = |from, most| {
            sql.rows(&find, (name, &version, from, most, int(epoch.0)), |row| {
                Ok((read_ready(row.get(0)?), row.get::<_, i64>(1)?))
            })
        };
        let found = first(limit, want.now, read)?.into_iter();
        free.extend(found.map(|(since, seq)| FreeInstance {
            since,
            seq,
            name: name.to_owned(),
            version: version.clone(),
        }));
        Ok(())
    };
    let mut names: Vec<&str> = want.orchestrations.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let members = MemberCode::read(sql)?;
    for name in names.into_iter().filter(|name| !members.is_outdated(epoch, name)) {
        of(name, None)?;
    }
    for (name, version) in &*want.orchestrations {
        of(name, Some(version.to_string()))?;
    }
    Ok(free)
}

/// Reads the first free activities of a name, including those that are not due yet. Leaves out those that the build of
/// the node has rejected.
fn free_activities(
    sql: &Sql,
    epoch: Epoch,
    want: &Want,
    name: &str,
    condition: &str,
    limit: usize,
) -> rusqlite::Result<Vec<FreeActivity>> {
    let find = format!(
        "SELECT {}, a.visible_at FROM duroxide_activities a
         WHERE owner IS NULL AND parked IS NULL AND name = ?1 AND visible_at >= ?3
             AND (?2 IS NULL OR tag IS NULL OR tag IN (SELECT value FROM json_each(?2))) AND {condition}
             AND (rejected IS NULL OR NOT EXISTS (
                SELECT 1 FROM duroxide_rejections r JOIN duroxide_nodes n ON n.build = r.build
                WHERE r.instance = a.instance AND r.execution = a.execution AND r.call = a.call AND n.epoch = ?5))
         ORDER BY visible_at LIMIT ?4",
        activity_key::list!()
    );
    let tags = want.tags.as_ref().map(|tags| serde_json::Value::from(tags.to_vec()).to_string());
    let read = |from, most| {
        sql.rows(&find, (name, &tags, from, most, int(epoch.0)), |row| {
            Ok((read_ready(row.get(activity_key::COUNT)?), activity_key(row)?))
        })
    };
    let found = first(limit, want.now, read)?.into_iter();
    Ok(found.map(|(since, key)| FreeActivity { since, key }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_for_quarantined_items_reads_nothing_else() {
        let connection = super::super::schema::in_memory();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", any_quarantined())).unwrap();
        let plan: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        for index in ["duroxide_instances_quarantined", "duroxide_activities_quarantined"] {
            assert!(plan.iter().any(|step| step.contains(index)), "{index} is not used: {plan:#?}");
        }
    }
}
