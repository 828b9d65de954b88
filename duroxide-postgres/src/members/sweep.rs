//! The release of the items of nodes that have died or left.

use std::time::Instant;

use duroxide::Timestamp;
use duroxide::id::{Epoch, NodeId};
use duroxide::provider::{CRASH_LIMIT, Departure, Signals};
use tokio_postgres::Row;

use super::settle::settle;
use super::{lock_members, mark_dead};
use crate::batch::{READY_REBUILD, UNREADY};
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{int, ready_by_message};
use crate::state::State;
use crate::work::Work;

/// The number of items that one transaction releases: others must not wait long for their locks.
const CHUNK: usize = 1000;

const _: () = assert!(CRASH_LIMIT == 10, "the statements repeat this number");

const LOCK: &str = "SELECT seq FROM live WHERE seq = ANY ($1::bigint[]) AND owner = $2 ORDER BY id FOR NO KEY UPDATE";

/// Releases instances. A crash is counted to those in flight: with a message that is due.
const RELEASE: &str = concat!(
    "UPDATE live l SET owner = NULL, alone = false, crashes = l.crashes + (r.crashed)::integer,
         suspect = l.suspect OR (r.crashed AND l.alone AND l.crashes + 1 >= 10),
         lost_by = CASE WHEN r.crashed THEN $4 ELSE l.lost_by END
     FROM (
         SELECT l.seq, $3 AND NOT l.suspended AND coalesce((SELECT min(",
    ready_by_message!(),
    ") FROM messages m WHERE m.instance = l.seq) <= $5, false) AS crashed
         FROM live l WHERE l.seq = ANY ($1::bigint[]) AND l.owner = $2) r
     WHERE l.seq = r.seq RETURNING l.seq"
);

const RELEASE_ACTIVITIES: &str = "
    UPDATE activities a SET owner = NULL, crashes = a.crashes + ($5::boolean)::integer,
        suspect = a.suspect OR ($5 AND a.alone AND a.crashes + 1 >= 10), alone = false,
        lost_by = CASE WHEN $5 THEN $6 ELSE a.lost_by END
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS t (instance, execution, call)
    WHERE a.instance = t.instance AND a.execution = t.execution AND a.call = t.call AND a.owner = $4";

/// Marks the given nodes as dead if they are expired, and releases the items of those that are dead. Items that are not
/// released by the deadline are left to a later renewal.
pub(crate) async fn sweep(
    connection: &Connection,
    state: &State,
    epochs: &[Epoch],
    deadline: Instant,
) -> Result<(), Fault> {
    mark_dead(connection, state, epochs, Departure::Silent).await?;
    let mut signals = Signals::default();
    for epoch in epochs {
        signals.work |= free(connection, state, *epoch, deadline).await?;
    }
    let settled = connection
        .transaction(async |connection| {
            lock_members(connection, state).await?;
            settle(connection, state).await
        })
        .await?;
    state.looks.forget();
    state.signal(signals, Work::default());
    state.signal(settled, Work::default());
    Ok(())
}

/// Releases the items of a dead node. Returns true if there were any.
///
/// The list of activities is read after the instances are released: a turn that schedules activities for their node holds
/// the lock of its instance, so the release of the instance has waited for it.
async fn free(connection: &Connection, state: &State, epoch: Epoch, deadline: Instant) -> Result<bool, Fault> {
    let find = "SELECT id, crashed FROM nodes WHERE epoch = $1 AND dead AND NOT freed";
    let dead = connection.query(step!(find, int(epoch.0))).await?;
    let Some(row) = dead.first() else { return Ok(false) };
    let dead = Dead { epoch: int(epoch.0), node: NodeId(row.try_get("id")?), crashed: row.try_get("crashed")? };
    let latest = state.latest();
    let mut any = false;
    let owned = connection.query(step!("SELECT seq FROM live WHERE owner = $1 ORDER BY id", dead.epoch)).await?;
    let owned: Vec<i64> = owned.iter().map(|row| Ok(row.try_get("seq")?)).collect::<Result<_, Fault>>()?;
    for chunk in owned.chunks(CHUNK) {
        if Instant::now() >= deadline {
            return Ok(any);
        }
        any |= connection.transaction(async |connection| dead.release(connection, chunk, latest).await).await?;
    }
    let find = "SELECT instance, execution, call FROM activities WHERE owner = $1 ORDER BY instance, execution, call";
    let running = connection.query(step!(find, dead.epoch)).await?;
    any |= !running.is_empty();
    for chunk in running.chunks(CHUNK) {
        if Instant::now() >= deadline {
            return Ok(any);
        }
        dead.release_activities(connection, chunk).await?;
    }
    let steps = [
        step!("DELETE FROM cancellations WHERE epoch = $1", dead.epoch),
        step!("DELETE FROM mail WHERE owner = $1", dead.epoch),
        step!("UPDATE nodes SET freed = true WHERE epoch = $1 AND dead", dead.epoch),
    ];
    connection.run(&steps).await?;
    Ok(any)
}

/// A node that has died or left.
struct Dead {
    epoch: i64,
    node: NodeId,
    crashed: bool,
}

impl Dead {
    /// Releases instances that the node still owns. Returns true if any.
    async fn release(&self, connection: &Connection, seqs: &[i64], latest: Timestamp) -> Result<bool, Fault> {
        let Self { epoch, node, crashed } = *self;
        // The messages are read by a later statement than the one that waits for the locks.
        connection.query(step!(LOCK, seqs, epoch)).await?;
        let released = connection.query(step!(RELEASE, seqs, epoch, crashed, node.0, latest.as_micros())).await?;
        let seqs: Vec<i64> = released.iter().map(|row| Ok(row.try_get("seq")?)).collect::<Result<_, Fault>>()?;
        if !seqs.is_empty() {
            connection.run(&[step!(UNREADY, seqs.clone()), step!(READY_REBUILD, seqs.clone())]).await?;
        }
        Ok(!seqs.is_empty())
    }

    async fn release_activities(&self, connection: &Connection, rows: &[Row]) -> Result<(), Fault> {
        let Self { epoch, node, crashed } = *self;
        let column = |name: &str| rows.iter().map(|row| Ok(row.try_get(name)?)).collect::<Result<Vec<i64>, Fault>>();
        let (instances, executions, calls) = (column("instance")?, column("execution")?, column("call")?);
        let release = step!(RELEASE_ACTIVITIES, instances, executions, calls, epoch, crashed, node.0);
        connection.query(release).await.map(drop)
    }
}

/// Reverts the crashes that a take-over of this node has counted, for items that have no owner.
pub(super) async fn revert_crashes(connection: &Connection, node: NodeId) -> Result<(), Fault> {
    let lock = "SELECT seq FROM live WHERE lost_by = $1 AND owner IS NULL ORDER BY id FOR NO KEY UPDATE";
    let instances =
        "UPDATE live SET crashes = greatest(crashes - 1, 0), suspect = suspect AND crashes - 1 >= 10, lost_by = NULL
        WHERE lost_by = $1 AND owner IS NULL RETURNING seq";
    let activities =
        "UPDATE activities SET crashes = greatest(crashes - 1, 0), suspect = suspect AND crashes - 1 >= 10,
            lost_by = NULL
        WHERE lost_by = $1 AND owner IS NULL";
    let answers = connection.run(&[step!(lock, node.0), step!(instances, node.0), step!(activities, node.0)]).await?;
    let reverted = answers.get(1).map(Vec::as_slice).unwrap_or_default();
    let seqs: Vec<i64> = reverted.iter().map(|row| Ok(row.try_get("seq")?)).collect::<Result<_, Fault>>()?;
    let copy = "UPDATE ready r SET crashes = l.crashes, suspect = l.suspect FROM live l
        WHERE r.seq = ANY ($1::bigint[]) AND l.seq = r.seq";
    connection.query(step!(copy, seqs)).await.map(drop)
}
