//! The members: joining, renewing, leaving, and the take-over of dead nodes.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Row;

use super::columns::columns;
use super::deliver::ready_by_messages;
use super::departed;
use super::listener;
use super::lock::{Liveness, NodeLock};
use super::rejections;
use super::rows::{epoch, int, natural, node_report, parsed, uuid};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{Epoch, NodeId};
use crate::provider::{CRASH_LIMIT, Departure, Handlers, Lease, NodeDetails, NodeInfo, NodeReport, Others};

/// The signs of life of other nodes, as observed by this process.
///
/// A node that shows no sign for two thirds of its lease time is suspect. It is dead if it shows none for the whole
/// lease time, and for a third of it after this process has written to the database. If no process could write, silence
/// proves nothing.
#[derive(Default)]
pub(super) struct Beats {
    seen: HashMap<Epoch, Observed>,
    /// The time of the last check.
    checked: Option<Instant>,
}

/// A sign of life: it changes with each heartbeat of the node.
#[derive(Clone, Copy, PartialEq)]
struct Sign {
    /// The number in the row of the node, which a node without a lock raises.
    row: i64,
    /// The number in the lock file. `None`: the node has no lock.
    file: Option<u64>,
}

struct Observed {
    sign: Sign,
    /// The time since which the sign has not changed.
    since: Instant,
    /// The first write of this process since the node is suspect.
    written: Option<Instant>,
}

/// The state of a node, as its signs of life show it.
#[derive(Debug, PartialEq)]
enum Verdict {
    Alive,
    /// The node is suspect, and this process has not written since.
    Suspect,
    Silent,
}

impl Beats {
    /// Begins a check. Returns the time since the last one.
    fn begin_check(&mut self, now: Instant) -> Duration {
        self.checked.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }

    /// Judges a node by its sign. The silence starts again if this process has paused its checks, because the storage may
    /// have been unreachable for both nodes, or both may have been stopped.
    fn judge(&mut self, epoch: Epoch, sign: Sign, lease_time: Duration, now: Instant, has_paused: bool) -> Verdict {
        let new = || Observed { sign, since: now, written: None };
        let observed = self.seen.entry(epoch).or_insert_with(new);
        if observed.sign != sign || has_paused {
            *observed = new();
        }
        let (silence, grace) = (now.saturating_duration_since(observed.since), lease_time / 3);
        match observed.written {
            _ if silence <= lease_time - grace => Verdict::Alive,
            None => Verdict::Suspect,
            Some(at) if silence > lease_time && now.saturating_duration_since(at) >= grace => Verdict::Silent,
            Some(_) => Verdict::Alive,
        }
    }

    /// Returns the time for which the sign of a node has not changed.
    fn silence_of(&self, epoch: Epoch, now: Instant) -> Option<Duration> {
        self.seen.get(&epoch).map(|observed| now.saturating_duration_since(observed.since))
    }

    /// Begins the grace of suspect nodes: this process has written to the database.
    pub(super) fn written(&mut self, suspects: &[Epoch], now: Instant) {
        for epoch in suspects {
            self.seen.entry(*epoch).and_modify(|observed| observed.written = observed.written.or(Some(now)));
        }
    }
}

/// The result of a check of the members.
pub(super) struct Members {
    /// True if the node that checks is a member.
    pub(super) held: bool,
    /// The lease time of that node.
    pub(super) lease_time: Duration,
    /// The other nodes that are not known to be dead.
    pub(super) others: Others,
    /// Nodes whose grace begins with the next write of this process.
    pub(super) suspects: Vec<Epoch>,
    pub(super) dead: Vec<DeadNode>,
    /// The locks of dead nodes that had one.
    pub(super) locks: Vec<NodeLock>,
}

/// A node that is to be taken over.
#[derive(Clone, Copy)]
pub(super) struct DeadNode {
    epoch: Epoch,
    /// The last sign of a node whose process may live.
    silent: Option<(NodeId, Sign)>,
    /// When it gave its last sign of life, if that is known.
    seen_at: Option<Timestamp>,
}

impl DeadNode {
    fn cause(&self) -> Departure {
        if self.silent.is_some() { Departure::Silent } else { Departure::Died }
    }

    /// Returns true if the node is still dead: no sign of life has come since the check.
    fn is_dead(&self, sql: &Sql, database: &Path) -> rusqlite::Result<bool> {
        let Some((node, sign)) = self.silent else { return Ok(true) };
        let file = match NodeLock::probe(database, node) {
            Liveness::Dead(_) => return Ok(true),
            Liveness::Alive(beat) => Some(beat),
            Liveness::Unknown => None,
        };
        let find = "SELECT beat FROM duroxide_nodes WHERE epoch = ?1";
        let row = sql.row(find, [int(self.epoch.0)], |row| row.get(0))?;
        Ok(row.is_some_and(|row| Sign { row, file } == sign))
    }
}

columns! {
    /// A member, and its sign of life.
    mod pulse { EPOCH = "epoch", ID = "id", BEAT = "beat", LEASE_TIME = "lease_time", BUILD = "build", REPORT = "report" }
}

/// A member, as a check reads it.
struct Pulse {
    epoch: Epoch,
    id: NodeId,
    /// The number that a node without a lock raises.
    beat: i64,
    lease_time: Duration,
    build: String,
    report: NodeReport,
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
    let nodes: Vec<Pulse> = sql.rows(find, [], |row| {
        let lease_time = Duration::from_micros(natural(row, pulse::LEASE_TIME)?);
        Ok(Pulse {
            epoch: Epoch(natural(row, pulse::EPOCH)?),
            id: NodeId(uuid(row, pulse::ID)?),
            beat: row.get(pulse::BEAT)?,
            lease_time,
            build: row.get(pulse::BUILD)?,
            report: node_report(row, pulse::REPORT)?,
        })
    })?;
    let mut members = Members {
        held: false,
        lease_time: Duration::MAX,
        others: Others::default(),
        suspects: Vec::new(),
        dead: Vec::new(),
        locks: Vec::new(),
    };
    let now = Instant::now();
    let pause = beats.begin_check(now);
    beats.seen.retain(|epoch, _| nodes.iter().any(|node| node.epoch == *epoch));
    // A node checks three times per lease time.
    let own_node = nodes.iter().find(|node| node.epoch == lease);
    let own_lease_time = own_node.map_or(Duration::ZERO, |node| node.lease_time);
    let own_build = own_node.map(|node| node.build.clone());
    for Pulse { epoch, id: node, beat: row, lease_time, build, report } in nodes {
        if epoch == lease {
            (members.held, members.lease_time) = (true, lease_time);
        } else if node != own {
            let peer = Some(&report).filter(|_| own_build.as_ref() == Some(&build));
            let file = match NodeLock::probe(database, node) {
                Liveness::Dead(lock) => {
                    members.dead.push(DeadNode { epoch, silent: None, seen_at: lock.beaten_at() });
                    members.locks.push(lock);
                    continue;
                }
                Liveness::Alive(beat) => Some(beat),
                Liveness::Unknown => None,
            };
            let (sign, has_paused) = (Sign { row, file }, pause > own_lease_time.max(lease_time) / 2);
            match beats.judge(epoch, sign, lease_time, now, has_paused) {
                Verdict::Silent => {
                    let silence = beats.silence_of(epoch, now);
                    let seen_at =
                        silence.and_then(|silence| SystemTime::now().checked_sub(silence)).map(Timestamp::from);
                    members.dead.push(DeadNode { epoch, silent: Some((node, sign)), seen_at });
                }
                Verdict::Suspect => {
                    members.suspects.push(epoch);
                    members.others.add(peer);
                }
                Verdict::Alive => members.others.add(peer),
            }
        }
    }
    Ok(members)
}

/// Makes a node a member. Ends its earlier memberships, and those of the dead nodes.
pub(super) fn join(
    tx: &mut Tx<'_>,
    info: &NodeInfo,
    database: &Path,
    dead: &[DeadNode],
    port: Option<u16>,
) -> rusqlite::Result<Lease> {
    let find = "SELECT epoch FROM duroxide_nodes WHERE id = ?1";
    for before in tx.sql.rows(find, [info.id.0.as_bytes()], |row| epoch(row, 0))?.into_iter().flatten() {
        free(tx, before, Departure::Fenced, None)?;
    }
    take_over(tx, database, dead)?;
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
    let orchestrations = json(orchestrations.into());
    let insert =
        "INSERT INTO duroxide_nodes (epoch, id, name, build, orchestrations, activities, tags, lease_time, host,
            process, started_at, seen_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let lease_time = i64::try_from(info.lease_time.as_micros()).unwrap_or(i64::MAX);
    let params = (
        int(epoch.0),
        info.id.0.as_bytes(),
        &info.name,
        &info.build,
        &orchestrations,
        json(activities.clone().into()),
        tags.clone().map(|tags| json(tags.into())),
        lease_time,
        &info.details.host,
        info.details.process,
        info.details.started_at.map(Timestamp::as_micros),
        Timestamp::from(SystemTime::now()).as_micros(),
    );
    tx.sql.run(insert, params)?;
    departed::record_build(tx, info, &orchestrations)?;
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

/// Takes over the items of dead nodes. `beat`: the node has no lock, so count its heartbeat, and show its time. Returns
/// true if its lease is still held.
pub(super) fn renew(
    tx: &mut Tx<'_>,
    lease: &Lease,
    database: &Path,
    dead: &[DeadNode],
    beat: bool,
) -> rusqlite::Result<bool> {
    if take_over(tx, database, dead)? {
        rejections::settle(tx)?;
    }
    let update = "UPDATE duroxide_nodes SET beat = beat + ?2, seen_at = iif(?2, ?3, seen_at) WHERE epoch = ?1";
    let now = Timestamp::from(SystemTime::now()).as_micros();
    Ok(tx.sql.run(update, (int(lease.epoch.0), i64::from(beat), now))? > 0)
}

/// Stores the report of a node.
pub(super) fn report(tx: &Tx<'_>, lease: &Lease, report: &str) -> rusqlite::Result<()> {
    tx.sql.run("UPDATE duroxide_nodes SET report = ?2 WHERE epoch = ?1", (int(lease.epoch.0), report)).map(drop)
}

/// Takes over the items of these nodes, if they are still dead. Returns true if any of them is.
fn take_over(tx: &mut Tx<'_>, database: &Path, dead: &[DeadNode]) -> rusqlite::Result<bool> {
    let mut any = false;
    for node in dead {
        if node.is_dead(&tx.sql, database)? {
            free(tx, node.epoch, node.cause(), node.seen_at)?;
            any = true;
        }
    }
    Ok(any)
}

/// Ends the membership of a node that leaves.
pub(super) fn leave(tx: &mut Tx<'_>, lease: &Lease) -> rusqlite::Result<()> {
    free(tx, lease.epoch, Departure::Left, None)?;
    rejections::settle(tx)
}

/// Ends a membership, and releases the items of the node. A crash is counted to the items in flight: its activities,
/// and its instances with due messages. `seen_at`: its last sign of life; `None`: now.
fn free(tx: &mut Tx<'_>, epoch: Epoch, cause: Departure, seen_at: Option<Timestamp>) -> rusqlite::Result<()> {
    departed::record(tx, epoch, cause, seen_at)?;
    let (epoch, crashed) = (int(epoch.0), cause.is_crash());
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
    /// A member `n`, or a departed node.
    pub(super) mod node {
        EPOCH = "n.epoch",
        ID = "n.id",
        NAME = "n.name",
        BUILD = "n.build",
        ORCHESTRATIONS = "n.orchestrations",
        ACTIVITIES = "n.activities",
        TAGS = "n.tags",
        LEASE_TIME = "n.lease_time",
        HOST = "n.host",
        PROCESS = "n.process",
        STARTED_AT = "n.started_at",
    }
}

/// Reads a member, or a departed node.
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
        details: NodeDetails {
            host: row.get(node::HOST)?,
            process: row.get(node::PROCESS)?,
            started_at: row.get::<_, Option<i64>>(node::STARTED_AT)?.map(Timestamp::from_micros),
            ..NodeDetails::default()
        },
    };
    Ok((Epoch(natural(row, node::EPOCH)?), info))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a node with a lease time of 30 s at each of these seconds, with the number of its heartbeat. The observer
    /// writes as soon as it suspects the node, if it can.
    fn verdicts<const N: usize>(can_write: bool, checks: [(u64, i64); N]) -> [Verdict; N] {
        let (mut beats, begun) = (Beats::default(), Instant::now());
        checks.map(|(second, row)| {
            let now = begun + Duration::from_secs(second);
            let has_paused = beats.begin_check(now) > Duration::from_secs(15);
            let sign = Sign { row, file: None };
            let verdict = beats.judge(Epoch(1), sign, Duration::from_secs(30), now, has_paused);
            if verdict == Verdict::Suspect && can_write {
                beats.written(&[Epoch(1)], now);
            }
            verdict
        })
    }

    #[test]
    fn silence_is_suspect_before_it_is_death() {
        use Verdict::{Alive, Silent, Suspect};
        let silent = [(0, 7), (10, 7), (20, 7), (21, 7), (30, 7), (31, 7)];
        assert_eq!(verdicts(true, silent), [Alive, Alive, Alive, Suspect, Alive, Silent]);
        let renewed = [(0, 7), (14, 7), (28, 7), (31, 8), (41, 8)];
        assert_eq!(verdicts(true, renewed), [Alive, Alive, Suspect, Alive, Alive], "the node has renewed its lease");
    }

    #[test]
    fn silence_counts_only_while_it_is_observed() {
        use Verdict::{Alive, Suspect};
        let paused = [(0, 7), (14, 7), (28, 7), (100, 7), (110, 7)];
        assert_eq!(
            verdicts(true, paused),
            [Alive, Alive, Suspect, Alive, Alive],
            "after an outage, the node may not have been able to renew"
        );
        let locked = [(0, 7), (14, 7), (28, 7), (42, 7), (56, 7)];
        let expected = [Alive, Alive, Suspect, Suspect, Suspect];
        assert_eq!(verdicts(false, locked), expected, "no node can write to a database that is locked");
    }
}
