//! The members: joining, renewing and leaving.
//!
//! Only the clock of the database counts. A node is taken over in two steps: a renewal of another node that sees it overdue
//! marks it as *suspected*; if it has not renewed after a time of grace, which removes the mark, a later one marks it as
//! dead. After an outage of the database all nodes are overdue at once, and all of them have the time of grace to renew.
//!
//! Marking a node as dead takes the lock on its epoch exclusively; a transaction that creates ownership holds that lock shared, and
//! looks for the node afterwards. So no item becomes owned by a dead node, and freeing its items
//! ([`sweep`]) may take as long as it needs.

pub(crate) mod departed;
mod settle;
mod sweep;

use std::time::{Duration, Instant};

use duroxide::Timestamp;
use duroxide::id::Epoch;
use duroxide::provider::{Departure, Lease, NodeInfo, Others, Renewal};
use tokio_postgres::Row;

pub(crate) use self::sweep::sweep;

use self::settle::settle;
use crate::batch::{MEMBERS, epoch_key};
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rollout::orchestrations_json;
use crate::rows::{int, natural, node_report};
use crate::schema::may_write;
use crate::session::{is_released, look_at_others};
use crate::state::State;
use crate::work::Work;

/// The longest time that a call waits for the release of the items of dead nodes. The rest is released by later renewals.
pub(crate) const SWEEP: Duration = Duration::from_secs(10);

/// The time of the database, in microseconds.
macro_rules! micros_now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}
use micros_now;

pub(crate) const NOW: &str = concat!("SELECT ", micros_now!(), " AS now");

/// Nodes that have not renewed for two thirds of their lease.
macro_rules! overdue {
    () => {
        "NOT dead AND suspected_at IS NULL AND expires_at - make_interval(secs => lease / 3000000.0) <= clock_timestamp()"
    };
}

/// The state of each node:
/// - `dead`;
/// - `freed`: dead, and nothing is owned by it;
/// - `old`: dead for a long time;
/// - `expired`: its lease is over, and it has not renewed for a third of it since it was suspected.
macro_rules! states {
    () => {
        "n.epoch, n.build, n.report, n.dead, n.freed, n.died_at < clock_timestamp() - interval '2 minutes' AS old,
         n.expires_at <= clock_timestamp()
             AND n.suspected_at + make_interval(secs => n.lease / 3000000.0) <= clock_timestamp() AS expired"
    };
}

/// Renews a lease, marks the nodes that are overdue, looks at the locks of sessions, and reads the states of all nodes: one
/// statement, since an idle node sends little else. No row is updated twice: a node whose lock is free is not suspected.
/// Only the row of the own node is waited for.
const RENEW: &str = concat!(
    "WITH renewed AS (
         UPDATE nodes SET expires_at = clock_timestamp() + make_interval(secs => lease / 1000000.0), suspected_at = NULL,
             released_at = NULL, session_on = CASE WHEN $2 THEN session_on END, room = coalesce($6, room),
             permits = coalesce($7, permits), report = $8
         WHERE epoch = $1 AND NOT dead RETURNING lease),
     ",
    look_at_others!("$3", "$4"),
    ",
     suspected AS (
         UPDATE nodes SET suspected_at = clock_timestamp() WHERE epoch IN (
             SELECT epoch FROM nodes
             WHERE epoch <> $1 AND epoch NOT IN (SELECT epoch FROM free) AND ",
    overdue!(),
    " ORDER BY epoch FOR NO KEY UPDATE SKIP LOCKED))
     SELECT ",
    states!(),
    ", f.epoch IS NOT NULL AS free, coalesce(f.released, false) AS released, r.lease,
         (SELECT writes_from FROM meta) AS writes_from,
         CASE WHEN $5 THEN coalesce((SELECT min(time) FROM dedup) < now() - interval '1 hour', false) ELSE false END AS expires,
         ",
    micros_now!(),
    " AS now
     FROM nodes n LEFT JOIN free f ON f.epoch = n.epoch LEFT JOIN renewed r ON true ORDER BY n.epoch"
);

/// Marks the nodes that are overdue.
const SUSPECT: &str = concat!(
    "UPDATE nodes SET suspected_at = clock_timestamp() WHERE epoch IN (SELECT epoch FROM nodes WHERE ",
    overdue!(),
    " ORDER BY epoch FOR NO KEY UPDATE SKIP LOCKED)"
);

const LOOK: &str = concat!("SELECT ", states!(), " FROM nodes n ORDER BY n.epoch");

/// Marks nodes as dead, and records their departure: with the given cause, or with that of a crash.
const MARK: &str = concat!(
    "WITH marked AS (
     UPDATE nodes SET dead = true, crashed = $2, died_at = clock_timestamp()
     WHERE epoch = ANY ($1::bigint[]) AND NOT dead AND (NOT $2 OR (expires_at <= clock_timestamp()
         AND suspected_at + make_interval(secs => lease / 3000000.0) <= clock_timestamp()) OR ",
    is_released!("$3"),
    ") RETURNING *, CASE WHEN NOT $2 THEN $4::text WHEN ",
    is_released!("$3"),
    " THEN 'died' ELSE 'silent' END AS cause)
     INSERT INTO departed (epoch, left_at, seen_at, cause, id, name, build, orchestrations, activities, tags, lease, host,
         process, started_at)
     SELECT epoch, t.now, CASE WHEN $2 THEN least(t.now, (extract(epoch FROM expires_at) * 1000000)::bigint - lease)
         ELSE t.now END, cause, id, name, build, orchestrations, activities, tags, lease, host, process, started_at
     FROM marked, (SELECT ",
    micros_now!(),
    " AS now) t ORDER BY epoch RETURNING build"
);

/// The result of a renewal.
pub(crate) struct Renewed {
    pub(crate) renewal: Renewal,
    /// Dead nodes, and nodes that are to be marked as dead.
    pub(crate) dead: Vec<Epoch>,
    pub(crate) lease_time: Duration,
    /// There are ids of old requests to be removed.
    pub(crate) expires: bool,
}

/// Renews a lease, and looks for dead nodes.
pub(crate) async fn renew(
    connection: &Connection,
    state: &State,
    lease: Lease,
    report: &str,
) -> Result<Renewed, Fault> {
    let asked = Instant::now();
    let (holds, own, class) = (state.sessions.holds(lease.epoch), state.sessions.own(), state.sessions.class);
    let (expires, places) = (state.is_time_to_expire(), state.places(lease.epoch));
    let (room, permits) = (places.map(|places| places.instances), places.map(|places| places.activities));
    let renew = step!(RENEW, int(lease.epoch.0), holds, own, class, expires, room, permits, report);
    let rows = connection.query(renew).await?;
    let (mut others, mut is_free) = (Others::default(), false);
    let build = own_build(&rows, lease)?;
    let (mut dead, mut old) = (Vec::new(), Vec::new());
    for row in &rows {
        let epoch = Epoch(natural(row, "epoch")?);
        let is_expired = row.try_get::<_, Option<bool>>("expired")? == Some(true) || row.try_get("released")?;
        is_free |= row.try_get::<_, bool>("free")?;
        if !row.try_get::<_, bool>("dead")? {
            if is_expired && epoch != lease.epoch {
                dead.push(epoch);
            } else if epoch != lease.epoch {
                let report = node_report(row)?;
                others.add((row.try_get::<_, &str>("build")? == build).then_some(&report));
            }
        } else if !row.try_get::<_, bool>("freed")? {
            dead.push(epoch);
        } else if row.try_get::<_, Option<bool>>("old")? == Some(true) {
            old.push(int(epoch.0));
        }
    }
    if !old.is_empty() {
        forget(connection, &old).await?;
    }
    let renewed = rows.first().map(|row| Ok::<_, Fault>((row, row.try_get::<_, Option<i64>>("lease")?))).transpose()?;
    let Some((row, Some(lease_time))) = renewed else {
        state.sessions.ended(lease.epoch);
        return Ok(Renewed { renewal: Renewal::Lost, dead, lease_time: Duration::ZERO, expires: false });
    };
    state.set_may_write(may_write(row.try_get("writes_from")?));
    state.sessions.looked(others.nodes > 0, is_free);
    state.clock.set(row.try_get("now")?, asked);
    let lease_time = Duration::from_micros(lease_time.unsigned_abs());
    // Counted by the node from before the request, by the database from a later moment.
    let renewal = Renewal::Held { valid_for: lease_time, others };
    Ok(Renewed { renewal, dead, lease_time, expires: row.try_get("expires")? })
}

/// Returns the build of the node that renews; an empty text if it is no longer there.
fn own_build(rows: &[Row], lease: Lease) -> Result<String, Fault> {
    for row in rows {
        if Epoch(natural(row, "epoch")?) == lease.epoch {
            return Ok(row.try_get("build")?);
        }
    }
    Ok(String::new())
}

/// Removes the rows of nodes that died some minutes ago, and the ids of requests that are no longer sent again.
async fn forget(connection: &Connection, old: &[i64]) -> Result<(), Fault> {
    let steps = [
        step!("DELETE FROM cancellations WHERE epoch = ANY ($1::bigint[])", old),
        step!("DELETE FROM mail WHERE owner = ANY ($1::bigint[])", old),
        step!("DELETE FROM nodes WHERE epoch = ANY ($1::bigint[]) AND dead AND freed", old),
    ];
    connection.run(&steps).await.map(drop)
}

/// Removes the ids of requests that were recorded more than an hour ago, until the deadline. They must be kept for
/// [`REPEAT_TIME`](duroxide::provider::REPEAT_TIME), by a clock that may be set forward.
pub(crate) async fn expire_dedup(connection: &Connection, deadline: Instant) -> Result<(), Fault> {
    let expire = "WITH gone AS (DELETE FROM dedup WHERE id IN (
            SELECT id FROM dedup WHERE time < now() - interval '1 hour' ORDER BY time LIMIT 2000 FOR UPDATE SKIP LOCKED)
        RETURNING 1) SELECT count(*) = 2000 AS more FROM gone";
    loop {
        let rows = connection.query(step!(expire)).await?;
        let more = rows.first().map(|row| row.try_get::<_, bool>("more")).transpose()? == Some(true);
        if !more || Instant::now() >= deadline {
            return Ok(());
        }
    }
}

/// Begins a transaction that changes the members: no item is rejected, and no other transaction changes the members, until
/// it ends.
pub(super) async fn lock_members(connection: &Connection, state: &State) -> Result<(), Fault> {
    let lock = "SELECT pg_advisory_xact_lock($1, $2)";
    connection.query(step!(lock, state.database.lock_class, MEMBERS)).await.map(drop)
}

/// Marks nodes as dead. If the cause is a crash: only those that are still expired, or whose session has still ended; the
/// items that they had in flight have crashed.
async fn mark_dead(connection: &Connection, state: &State, epochs: &[Epoch], cause: Departure) -> Result<(), Fault> {
    if epochs.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<i32> = epochs.iter().map(|epoch| epoch_key(*epoch)).collect();
    keys.sort_unstable();
    let epochs: Vec<i64> = epochs.iter().map(|epoch| int(epoch.0)).collect();
    connection
        .transaction(async |connection| {
            lock_members(connection, state).await?;
            let lock = "SELECT pg_advisory_xact_lock($1, k) FROM unnest($2::integer[]) AS t (k)";
            let class = state.sessions.class;
            let mark = step!(MARK, epochs, cause.is_crash(), class, cause.as_str());
            let answers = connection.run(&[step!(lock, state.database.lock_class, keys), mark]).await?;
            let marked = answers.get(1).map(Vec::as_slice).unwrap_or_default();
            let builds: Vec<String> =
                marked.iter().map(|row| Ok(row.try_get("build")?)).collect::<Result<_, Fault>>()?;
            if !builds.is_empty() {
                connection.run(&[step!(departed::SEE_BUILDS, builds), step!(departed::FORGET)]).await?;
            }
            Ok(())
        })
        .await
}

/// Makes a node a member. Its earlier memberships, and dead nodes, were ended before; see [`end_before_join`].
pub(crate) async fn join(connection: &Connection, state: &State, info: &NodeInfo) -> Result<Lease, Fault> {
    let asked = Instant::now();
    let now = connection.query(step!(NOW)).await?;
    if let Some(row) = now.first() {
        state.clock.set(row.try_get("now")?, asked);
    }
    let lease_time = i64::try_from(info.lease_time.as_micros()).unwrap_or(i64::MAX).min(MAX_LEASE);
    let json = |list: &[String]| serde_json::Value::from(list.to_vec()).to_string();
    let handlers = &info.handlers;
    let (epoch, signals) = connection
        .transaction(async |connection| {
            lock_members(connection, state).await?;
            sweep::revert_crashes(connection, info.id).await?;
            let orchestrations = orchestrations_json(&handlers.orchestrations);
            // The low bits keep two timelines of a database, after the failure of its primary, from giving one epoch twice.
            let insert =
                "INSERT INTO nodes (epoch, id, name, build, orchestrations, activities, tags, lease, expires_at, host, process,
                    started_at)
                VALUES ((nextval('epochs') << 16) | $1::bigint, $2, $3, $4, $5, $6, $7, $8::bigint,
                    clock_timestamp() + make_interval(secs => $8::bigint / 1000000.0), $9, $10, $11) RETURNING epoch";
            let random = i64::from(u16::from_le_bytes([info.id.0.as_bytes()[14], info.id.0.as_bytes()[15]]));
            let rows = connection
                .query(step!(
                    insert,
                    random,
                    info.id.0,
                    info.name.as_str(),
                    info.build.as_str(),
                    orchestrations.clone(),
                    json(&handlers.activities),
                    handlers.tags.as_deref().map(json),
                    lease_time,
                    info.details.host.as_deref(),
                    info.details.process.map(i64::from),
                    info.details.started_at.map(Timestamp::as_micros),
                ))
                .await?;
            departed::record_build(connection, info, orchestrations).await?;
            let row = rows.first().ok_or_else(|| Fault::Unreadable("an insert returns no row".to_owned()))?;
            Ok((Epoch(natural(row, "epoch")?), settle(connection, state).await?))
        })
        .await?;
    state.signal(signals, Work::default());
    state.sessions.joined(epoch);
    Ok(Lease { node: info.id, epoch })
}

/// The longest lease, in microseconds: thirty years, which a timestamp of the database can hold.
const MAX_LEASE: i64 = 1_000_000_000_000_000;

/// Ends the earlier memberships of a node, and those of dead nodes. A node that joins again has stopped the work of its
/// earlier memberships. Returns the epochs to sweep.
pub(crate) async fn end_before_join(
    connection: &Connection,
    state: &State,
    info: &NodeInfo,
) -> Result<Vec<Epoch>, Fault> {
    let earlier = "SELECT epoch FROM nodes WHERE id = $1 AND NOT dead";
    let answers = connection.run(&[step!(earlier, info.id.0), step!(SUSPECT), step!(LOOK)]).await?;
    let [earlier, _, nodes] = &answers[..] else {
        return Err(Fault::Unreadable("a join has other answers".to_owned()));
    };
    let own: Vec<Epoch> = earlier.iter().map(|row| natural(row, "epoch").map(Epoch)).collect::<Result<_, _>>()?;
    let mut dead = Vec::new();
    for row in nodes {
        let epoch = Epoch(natural(row, "epoch")?);
        let is_dead = row.try_get::<_, bool>("dead")?;
        let is_expired = row.try_get::<_, Option<bool>>("expired")? == Some(true);
        if (is_dead && !row.try_get::<_, bool>("freed")?) || (!is_dead && is_expired && !own.contains(&epoch)) {
            dead.push(epoch);
        }
    }
    mark_dead(connection, state, &own, Departure::Fenced).await?;
    own.iter().for_each(|epoch| state.sessions.ended(*epoch));
    dead.extend(own);
    Ok(dead)
}

/// Ends a membership. Returns the epochs to sweep.
pub(crate) async fn leave(connection: &Connection, state: &State, lease: Lease) -> Result<Vec<Epoch>, Fault> {
    mark_dead(connection, state, &[lease.epoch], Departure::Left).await?;
    state.sessions.ended(lease.epoch);
    Ok(vec![lease.epoch])
}
