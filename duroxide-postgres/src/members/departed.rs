//! Nodes that have departed, and the builds that nodes had. They change with the members, under the lock of the members.

use duroxide::provider::{BuildRecord, DepartedNode, Departure, NodeInfo, NodeRecord};
use tokio_postgres::Row;

use super::micros_now;
use crate::admin::node;
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{natural, time};

const _: () = assert!(DepartedNode::KEPT == 1000 && DepartedNode::KEPT_DAYS == 30, "a statement repeats these numbers");
const _: () = assert!(BuildRecord::KEPT == 100, "a statement repeats this number");

/// Removes departed nodes beyond the newest ones, and old ones.
pub(super) const FORGET: &str = concat!(
    "DELETE FROM departed WHERE number < (SELECT number FROM departed ORDER BY number DESC OFFSET 999 LIMIT 1)
        OR left_at < ",
    micros_now!(),
    " - 30 * 86400000000"
);

/// Shows that nodes with these builds have joined or departed.
pub(super) const SEE_BUILDS: &str = concat!(
    "UPDATE builds SET seen = (SELECT max(seen) FROM builds) + 1, last_seen = greatest(last_seen, ",
    micros_now!(),
    ") WHERE build = ANY ($1::text[])"
);

const ADD_BUILD: &str = concat!(
    "INSERT INTO builds (build, seen, first_seen, last_seen, orchestrations, code)
     VALUES ($1, 0, ",
    micros_now!(),
    ", ",
    micros_now!(),
    ", $2, $3) ON CONFLICT (build) DO NOTHING RETURNING build"
);

/// Removes the builds that are neither new nor in use.
const PRUNE_BUILDS: &str = "
    DELETE FROM builds d
    WHERE d.build IN (SELECT build FROM builds ORDER BY seen DESC, build OFFSET 100) AND d.build <> $1
    AND NOT EXISTS (SELECT 1 FROM nodes n WHERE NOT n.dead AND n.build = d.build)
    AND NOT EXISTS (
        SELECT 1 FROM (
            SELECT o.value ->> 0 AS name, o.value ->> 1 AS version, max(b.seen) AS newest
            FROM builds b, json_array_elements(b.orchestrations::json) o GROUP BY 1, 2) c
        WHERE c.newest = d.seen AND EXISTS (
            SELECT 1 FROM live l JOIN instances i ON i.seq = l.seq WHERE i.name = c.name AND l.version = c.version))";

/// Records the build of a node that joins. `orchestrations`: as in its row.
pub(super) async fn record_build(
    connection: &Connection,
    info: &NodeInfo,
    orchestrations: String,
) -> Result<(), Fault> {
    if info.details.code.is_empty() {
        return Ok(());
    }
    let add = step!(ADD_BUILD, info.build.as_str(), orchestrations, info.details.code.to_json());
    let is_new = !connection.query(add).await?.is_empty();
    connection.query(step!(SEE_BUILDS, vec![info.build.as_str()])).await?;
    if is_new {
        connection.query(step!(PRUNE_BUILDS, info.build.as_str())).await?;
    }
    Ok(())
}

/// Lists departed nodes, the last one to depart first.
pub(crate) async fn list(connection: &Connection, limit: usize) -> Result<Vec<DepartedNode>, Fault> {
    let find = "SELECT epoch, left_at, seen_at, cause, id, name, build, orchestrations, activities, tags, lease, host,
            process, started_at
        FROM departed ORDER BY number DESC LIMIT $1";
    let rows = connection.query(step!(find, i64::try_from(limit).unwrap_or(i64::MAX))).await?;
    let departed = |row: &Row| {
        let (epoch, info) = node(row)?;
        let text: &str = row.try_get("cause")?;
        let cause = Departure::ALL.into_iter().find(|cause| cause.as_str() == text);
        let cause = cause.ok_or_else(|| Fault::Unreadable(format!("unknown cause of a departure {text:?}")))?;
        let (left_at, seen_at) = (time(row, "left_at")?, time(row, "seen_at")?);
        Ok(DepartedNode { node: NodeRecord::departed(info, epoch, seen_at), left_at, seen_at, cause })
    };
    rows.iter().map(departed).collect()
}

/// Lists the builds, the one that was seen last first.
pub(crate) async fn builds(connection: &Connection) -> Result<Vec<BuildRecord>, Fault> {
    let find = "SELECT b.build, b.code, b.first_seen, b.last_seen,
            (SELECT count(*) FROM nodes n WHERE NOT n.dead AND n.build = b.build) AS members
        FROM builds b ORDER BY b.seen DESC, b.build";
    let rows = connection.query(step!(find)).await?;
    let record = |row: &Row| {
        let seen = [time(row, "first_seen")?, time(row, "last_seen")?];
        Ok(BuildRecord::read(row.try_get("build")?, row.try_get("code")?, seen, natural(row, "members")?))
    };
    rows.iter().map(record).collect()
}
