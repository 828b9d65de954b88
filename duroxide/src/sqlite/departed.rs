//! Nodes that have departed, and the builds that nodes had.

use std::time::{Duration, SystemTime};

use rusqlite::Row;

use super::columns::columns;
use super::members::{self, node};
use super::rows::{int, natural, parsed, time};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::Epoch;
use crate::provider::{BuildRecord, DepartedNode, Departure, NodeInfo, NodeRecord};

/// Returns the time of a change of the members. The calls that change them name no time.
fn now(tx: &Tx<'_>) -> Timestamp {
    tx.latest_time().max(SystemTime::now().into())
}

/// Records the departure of a member whose row still exists.
pub(super) fn record(tx: &Tx<'_>, epoch: Epoch, cause: Departure, seen_at: Option<Timestamp>) -> rusqlite::Result<()> {
    let now = now(tx);
    let insert = "INSERT INTO duroxide_departed (epoch, left_at, seen_at, cause, id, name, build, orchestrations, activities,
            tags, lease_time, host, process, started_at)
        SELECT epoch, ?2, ?3, ?4, id, name, build, orchestrations, activities, tags, lease_time, host, process, started_at
        FROM duroxide_nodes WHERE epoch = ?1 RETURNING build";
    let seen_at = seen_at.map_or(now, |seen_at| seen_at.min(now));
    let params = (int(epoch.0), now.as_micros(), seen_at.as_micros(), cause.as_str());
    let Some(build) = tx.sql.row(insert, params, |row| row.get::<_, String>(0))? else { return Ok(()) };
    see_build(tx, &build, now)?;
    let delete = "DELETE FROM duroxide_departed
        WHERE number <= (SELECT max(number) FROM duroxide_departed) - ?1 OR left_at < ?2";
    let oldest = now - Duration::from_secs(DepartedNode::KEPT_DAYS * 86_400);
    tx.sql.run(delete, (int(DepartedNode::KEPT as u64), oldest.as_micros())).map(drop)
}

columns! {
    /// A departed node `n`. They follow the columns of [`node`].
    mod end { LEFT_AT = "n.left_at", SEEN_AT = "n.seen_at", CAUSE = "n.cause" }
}

/// Lists departed nodes, the last one to depart first.
pub(super) fn list(sql: &Sql, limit: usize) -> rusqlite::Result<Vec<DepartedNode>> {
    #[derive(Debug, thiserror::Error)]
    #[error("unknown cause of a departure {0:?}")]
    struct Unknown(String);
    let find = concat!(
        "SELECT ",
        node::list!(),
        ", ",
        end::list!(),
        " FROM duroxide_departed n ORDER BY n.number DESC LIMIT ?1"
    );
    sql.rows(find, [i64::try_from(limit).unwrap_or(i64::MAX)], |row: &Row<'_>| {
        let (epoch, info) = members::node(row)?;
        let cause = parsed(row, node::COUNT + end::CAUSE, |text: String| {
            Departure::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or(Unknown(text))
        })?;
        let (left_at, seen_at) = (time(row, node::COUNT + end::LEFT_AT)?, time(row, node::COUNT + end::SEEN_AT)?);
        Ok(DepartedNode { node: NodeRecord::departed(info, epoch, seen_at), left_at, seen_at, cause })
    })
}

/// Records the build of a node that joins. `orchestrations`: as in its row.
pub(super) fn record_build(tx: &Tx<'_>, info: &NodeInfo, orchestrations: &str) -> rusqlite::Result<()> {
    if info.details.code.is_empty() {
        return Ok(());
    }
    let now = now(tx);
    let insert = "INSERT INTO duroxide_builds (build, seen, first_seen, last_seen, orchestrations, code)
        VALUES (?1, 0, ?2, ?2, ?3, ?4) ON CONFLICT (build) DO NOTHING";
    let is_new = tx.sql.run(insert, (&info.build, now.as_micros(), orchestrations, info.details.code.to_json()))? > 0;
    see_build(tx, &info.build, now)?;
    if is_new { prune_builds(tx, &info.build) } else { Ok(()) }
}

fn see_build(tx: &Tx<'_>, build: &str, now: Timestamp) -> rusqlite::Result<()> {
    let update = "UPDATE duroxide_builds
        SET seen = (SELECT max(seen) FROM duroxide_builds) + 1, last_seen = max(last_seen, ?2) WHERE build = ?1";
    tx.sql.run(update, (build, now.as_micros())).map(drop)
}

/// Removes the builds that are neither new nor in use.
fn prune_builds(tx: &Tx<'_>, joining: &str) -> rusqlite::Result<()> {
    // An unreadable list must not prevent a join.
    let delete = "DELETE FROM duroxide_builds
        WHERE build IN (SELECT build FROM duroxide_builds ORDER BY seen DESC LIMIT -1 OFFSET ?2) AND build <> ?1
        AND NOT EXISTS (SELECT 1 FROM duroxide_nodes n WHERE n.build = duroxide_builds.build)
        AND NOT EXISTS (
            SELECT 1 FROM (
                SELECT o.value AS code, max(b.seen) AS newest
                FROM duroxide_builds b, json_each(iif(json_valid(b.orchestrations), b.orchestrations, '[]')) o
                GROUP BY o.value) c
            WHERE c.newest = duroxide_builds.seen AND EXISTS (
                SELECT 1 FROM duroxide_instances i WHERE i.status IN ('running', 'suspended')
                AND i.name = json_extract(c.code, '$[0]') AND i.version = json_extract(c.code, '$[1]')))";
    tx.sql.run(delete, (joining, int(BuildRecord::KEPT as u64))).map(drop)
}

columns! {
    /// A build `b`, and the number of its members.
    mod build {
        BUILD = "b.build",
        CODE = "b.code",
        FIRST_SEEN = "b.first_seen",
        LAST_SEEN = "b.last_seen",
        MEMBERS = "(SELECT count(*) FROM duroxide_nodes n WHERE n.build = b.build)",
    }
}

/// Lists the builds, the one that was seen last first.
pub(super) fn builds(sql: &Sql) -> rusqlite::Result<Vec<BuildRecord>> {
    let find = concat!("SELECT ", build::list!(), " FROM duroxide_builds b ORDER BY b.seen DESC");
    sql.rows(find, [], |row: &Row<'_>| {
        let seen = [time(row, build::FIRST_SEEN)?, time(row, build::LAST_SEEN)?];
        let members = natural(row, build::MEMBERS)?;
        Ok(BuildRecord::read(row.get(build::BUILD)?, row.get_ref(build::CODE)?.as_str()?, seen, members))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::id::NodeId;
    use crate::provider::Handlers;
    use crate::sqlite::schema;
    use crate::sqlite::sql::OwnSql;

    #[test]
    fn departed_nodes_are_bounded_by_number_and_age() {
        let sql = OwnSql::of(schema::in_memory());
        let join_and_leave = |time: Timestamp| {
            let (build, details) = ("b".to_owned(), Default::default());
            let (handlers, lease_time) = (Handlers::default(), Duration::from_secs(5));
            let info = NodeInfo { id: NodeId::new(), name: "n".to_owned(), build, handlers, lease_time, details };
            let mut tx = Tx::new(sql.session(), Some(time));
            let lease = members::join(&mut tx, &info, Path::new("none"), &[], None).unwrap();
            members::leave(&mut tx, &lease).unwrap();
            lease.epoch
        };
        let begun = Timestamp::from(SystemTime::now()) + Duration::from_secs(3600);
        let epochs: Vec<_> = (0..1002).map(|_| join_and_leave(begun)).collect();
        let found = list(&sql.session(), usize::MAX).unwrap();
        assert_eq!(found.len(), DepartedNode::KEPT);
        assert_eq!((found[0].node.epoch, found[999].node.epoch), (epochs[1001], epochs[2]));
        let last = join_and_leave(begun + Duration::from_secs(31 * 86_400));
        let found = list(&sql.session(), usize::MAX).unwrap();
        assert_eq!(found.iter().map(|departed| departed.node.epoch).collect::<Vec<_>>(), [last]);
    }
}
