//! The members: joining, renewing, leaving, and the take-over of dead nodes.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Row;

use super::columns::columns;
use super::deliver::ready_by_messages;
use super::listener;
use super::lock::{Liveness, NodeLock};
use super::rejections;
use super::rows::{epoch, int, natural, parsed, uuid};
use super::sql::Sql;
use super::tx::Tx;
use crate::id::{Epoch, NodeId};
use crate::provider::{CRASH_LIMIT, Handlers, Lease, NodeInfo};

/// The heartbeats of other nodes, as observed by this process.
#[derive(Default)]
pub(super) struct Beats {
    seen: HashMap<Epoch, Beat>,
    /// The time of the last check.
    checked: Option<Instant>,
}

/// The number of a heartbeat, and the time since which it has not changed.
struct Beat {
    number: i64,
    since: Instant,
}

impl Beats {
    /// Begins a check. Returns the time since the last one.
    fn begin_check(&mut self, now: Instant) -> Duration {
        self.checked.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }

    /// Returns the time for which a heartbeat has not changed. The time starts anew if this process has paused its
    /// checks, because the storage may have been unreachable for both nodes.
    fn silence(&mut self, epoch: Epoch, number: i64, now: Instant, has_paused: bool) -> Duration {
        let beat = self.seen.entry(epoch).or_insert(Beat { number, since: now });
        if beat.number != number || has_paused {
            *beat = Beat { number, since: now };
        }
        now.saturating_duration_since(beat.since)
    }
}

/// The result of a check of the members.
pub(super) struct Members {
    /// True if the node that checks is a member.
    pub(super) held: bool,
    /// The lease time of that node.
    pub(super) lease_time: Duration,
    /// The number of other nodes that are not known to be dead.
    pub(super) others: usize,
    /// Nodes that have died, with their locks if they had one.
    pub(super) dead: Vec<(Epoch, Option<NodeLock>)>,
}

columns! {
    /// A member, and its sign of life.
    mod pulse { EPOCH = "epoch", ID = "id", BEAT = "beat", LEASE_TIME = "lease_time" }
}

/// Reads the members, and finds those that are dead.
pub(super) fn check(
    sql: &Sql,
    database: &Path,
    own: NodeId,
    lease: Epoch,
    beats: &mut Beats,
) -> rusqlite::Result<Members> {
    let find = concat!("SELECT ", pulse::list!(), " FROM duroxide_nodes");
    let nodes: Vec<(Epoch, NodeId, i64, Duration)> = sql.rows(find, [], |row| {
        let lease_time = Duration::from_micros(natural(row, pulse::LEASE_TIME)?);
        Ok((Epoch(natural(row, pulse::EPOCH)?), NodeId(uuid(row, pulse::ID)?), row.get(pulse::BEAT)?, lease_time))
    })?;
    let mut members = Members { held: false, lease_time: Duration::MAX, others: 0, dead: Vec::new() };
    let now = Instant::now();
    let pause = beats.begin_check(now);
    beats.seen.retain(|epoch, _| nodes.iter().any(|(node, ..)| node == epoch));
    // A node checks three times per lease time.
    let own_lease_time = nodes.iter().find(|(epoch, ..)| *epoch == lease).map_or(Duration::ZERO, |(.., time)| *time);
    for (epoch, node, beat, lease_time) in nodes {
        if epoch == lease {
            (members.held, members.lease_time) = (true, lease_time);
        } else if node != own {
            let has_paused = pause > own_lease_time.max(lease_time) / 2;
            let silent = beats.silence(epoch, beat, now, has_paused) > lease_time;
            match NodeLock::probe(database, node) {
                Liveness::Dead(lock) => members.dead.push((epoch, Some(lock))),
                Liveness::Unknown if silent => members.dead.push((epoch, None)),
                Liveness::Alive | Liveness::Unknown => members.others += 1,
            }
        }
    }
    Ok(members)
}

/// Makes a node a member. Ends its earlier memberships, and those of the dead nodes.
pub(super) fn join(tx: &mut Tx<'_>, info: &NodeInfo, dead: &[Epoch], port: Option<u16>) -> rusqlite::Result<Lease> {
    let find = "SELECT epoch FROM duroxide_nodes WHERE id = ?1";
    for before in tx.sql.rows(find, [info.id.0.as_bytes()], |row| epoch(row, 0))?.into_iter().flatten() {
        free(tx, before, false)?;
    }
    take_over(tx, dead)?;
    revert_crashes(tx, info.id)?;
    if let Some(port) = port {
        listen(tx, port)?;
    }
    let next = "UPDATE duroxide_counters SET epoch = epoch + 1 RETURNING epoch";
    let epoch = tx.sql.row(next, [], |row| natural(row, 0))?.map(Epoch).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let Handlers { orchestrations, activities, tags } = &info.handlers;
    let json = |value: serde_json::Value| value.to_string();
    let orchestrations: Vec<_> =
        orchestrations.iter().map(|(name, v)| serde_json::json!([name, v.to_string()])).collect();
    let insert = "INSERT INTO duroxide_nodes (epoch, id, name, build, orchestrations, activities, tags, lease_time)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let lease_time = i64::try_from(info.lease_time.as_micros()).unwrap_or(i64::MAX);
    let params = (
        int(epoch.0),
        info.id.0.as_bytes(),
        &info.name,
        &info.build,
        json(orchestrations.into()),
        json(activities.clone().into()),
        tags.clone().map(|tags| json(tags.into())),
        lease_time,
    );
    tx.sql.run(insert, params)?;
    tx.members = None;
    rejections::settle(tx)?;
    Ok(Lease { node: info.id, epoch })
}

/// Registers the listener of this provider, and removes the listeners of dead processes.
pub(super) fn listen(tx: &Tx<'_>, port: u16) -> rusqlite::Result<()> {
    for other in tx.sql.rows("SELECT port FROM duroxide_listeners", [], |row| row.get::<_, u16>(0))? {
        if other != port && listener::is_dead(other) {
            tx.sql.run("DELETE FROM duroxide_listeners WHERE port = ?1", [other])?;
        }
    }
    tx.sql.run("INSERT OR IGNORE INTO duroxide_listeners (port) VALUES (?1)", [port]).map(drop)
}

/// Takes over the items of dead nodes. `beat`: the node has no lock, so count its heartbeat. Returns true if its lease
/// is still held.
pub(super) fn renew(tx: &mut Tx<'_>, lease: &Lease, dead: &[Epoch], beat: bool) -> rusqlite::Result<bool> {
    take_over(tx, dead)?;
    if !dead.is_empty() {
        rejections::settle(tx)?;
    }
    let update = "UPDATE duroxide_nodes SET beat = beat + ?2 WHERE epoch = ?1";
    Ok(tx.sql.run(update, (int(lease.epoch.0), i64::from(beat)))? > 0)
}

fn take_over(tx: &mut Tx<'_>, dead: &[Epoch]) -> rusqlite::Result<()> {
    dead.iter().try_for_each(|epoch| free(tx, *epoch, true))
}

/// Ends the membership of a node that leaves.
pub(super) fn leave(tx: &mut Tx<'_>, lease: &Lease) -> rusqlite::Result<()> {
    free(tx, lease.epoch, false)?;
    rejections::settle(tx)
}

/// Ends a membership, and releases the items of the node. A crash is counted to the items in flight: its activities,
/// and its instances with due messages.
fn free(tx: &mut Tx<'_>, epoch: Epoch, crashed: bool) -> rusqlite::Result<()> {
    let epoch = int(epoch.0);
    let delete = "DELETE FROM duroxide_nodes WHERE epoch = ?1 RETURNING id";
    let Some(node) = tx.sql.row(delete, [epoch], |row| row.get::<_, Vec<u8>>(0))? else { return Ok(()) };
    tx.members = None;
    tx.sql.run("DELETE FROM duroxide_cancellations WHERE epoch = ?1", [epoch])?;
    tx.sql.run("DELETE FROM duroxide_mail WHERE owner = ?1", [epoch])?;
    let activities = "UPDATE duroxide_activities
        SET owner = NULL, crashes = crashes + ?2, suspect = suspect OR (?2 AND alone AND crashes + 1 >= ?3), alone = 0,
            lost_by = iif(?2, ?4, lost_by)
        WHERE owner = ?1";
    tx.sql.run(activities, (epoch, crashed, CRASH_LIMIT, &node))?;
    let instances = concat!(
        "UPDATE duroxide_instances
        SET owner = NULL, ready_at = r.at, alone = 0,
            crashes = crashes + (?2 AND coalesce(r.at <= ?3, 0)),
            suspect = suspect OR (?2 AND alone AND coalesce(r.at <= ?3, 0) AND crashes + 1 >= ?4),
            lost_by = iif(?2 AND coalesce(r.at <= ?3, 0), ?5, lost_by)
        FROM (SELECT i.seq AS instance, ",
        ready_by_messages!("i.seq"),
        " AS at FROM duroxide_instances i WHERE i.owner = ?1) AS r
        WHERE seq = r.instance"
    );
    tx.sql.run(instances, (epoch, crashed, tx.latest_time().as_micros(), CRASH_LIMIT, &node))?;
    tx.signals.work = true;
    Ok(())
}

/// Reverts the crashes that a take-over of this node has counted, for items without an owner: the node is alive.
fn revert_crashes(tx: &Tx<'_>, node: NodeId) -> rusqlite::Result<()> {
    for table in ["duroxide_instances", "duroxide_activities"] {
        let update = format!(
            "UPDATE {table} SET crashes = max(crashes - 1, 0), suspect = suspect AND crashes > ?2, lost_by = NULL
             WHERE lost_by = ?1 AND owner IS NULL"
        );
        tx.sql.run(&update, (node.0.as_bytes(), CRASH_LIMIT))?;
    }
    Ok(())
}

/// Lists the ids of the members.
pub(super) fn ids(sql: &Sql) -> rusqlite::Result<Vec<NodeId>> {
    sql.rows("SELECT id FROM duroxide_nodes", [], |row| uuid(row, 0).map(NodeId))
}

columns! {
    /// A member `n`.
    pub(super) mod node {
        EPOCH = "n.epoch",
        ID = "n.id",
        NAME = "n.name",
        BUILD = "n.build",
        ORCHESTRATIONS = "n.orchestrations",
        ACTIVITIES = "n.activities",
        TAGS = "n.tags",
        LEASE_TIME = "n.lease_time",
    }
}

/// Reads a member.
pub(super) fn node(row: &Row<'_>) -> rusqlite::Result<(Epoch, NodeInfo)> {
    let info = NodeInfo {
        id: NodeId(uuid(row, node::ID)?),
        name: row.get(node::NAME)?,
        build: row.get(node::BUILD)?,
        handlers: Handlers {
            orchestrations: parsed(row, node::ORCHESTRATIONS, |json: String| serde_json::from_str(&json))?,
            activities: parsed(row, node::ACTIVITIES, |json: String| serde_json::from_str(&json))?,
            tags: parsed(row, node::TAGS, |json: Option<String>| {
                json.map(|json| serde_json::from_str(&json)).transpose()
            })?,
        },
        lease_time: Duration::from_micros(natural(row, node::LEASE_TIME)?),
    };
    Ok((Epoch(natural(row, node::EPOCH)?), info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_while_it_is_observed() {
        let (mut beats, begun) = (Beats::default(), Instant::now());
        let mut silence = |second: u64, number: i64| {
            let now = begun + Duration::from_secs(second);
            let has_paused = beats.begin_check(now) > Duration::from_secs(15);
            beats.silence(Epoch(1), number, now, has_paused).as_secs()
        };
        assert_eq!([silence(0, 7), silence(10, 7), silence(20, 7)], [0, 10, 20]);
        assert_eq!([silence(30, 8), silence(40, 8)], [0, 10], "the node has renewed its lease");
        assert_eq!(
            [silence(100, 8), silence(110, 8)],
            [0, 10],
            "after an outage, the node may not have been able to renew"
        );
    }
}
