//! The items without an owner that a node may claim.

use rusqlite::ToSql;

use super::columns::columns;
use super::member_code::MemberCode;
use super::rows::{ActivityKey, FIRST_TIME, activity_key, int, read_ready};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::id::{ActivityId, Epoch};
use crate::provider::{QUARANTINE, Ready, Want};

/// An instance without an owner.
#[derive(Clone)]
pub(super) struct FreeInstance {
    /// The time since which it is ready, or at which it will be ready.
    pub(super) since: Timestamp,
    pub(super) seq: i64,
    pub(super) name: String,
    pub(super) version: Option<String>,
    /// True if it is suspended until the time since which it is ready.
    pub(super) paused: bool,
}

/// An activity without an owner.
#[derive(Clone)]
pub(super) struct FreeActivity {
    /// The time since which it is ready, or at which it will be ready.
    pub(super) since: Timestamp,
    pub(super) key: ActivityKey,
}

/// The conditions for items that may be claimed together with others, and for quarantined ones. An item in quarantine
/// ([`QUARANTINE`]) is claimed alone. A suspect item has already crashed alone; it is claimed like others, and the node
/// suspends it instead of running it. Quarantined items have their own indexes, so the search for them does not read
/// other items.
const FREE: &str = "(crashes < 3 OR suspect = 1)";
const QUARANTINED: &str = "crashes >= 3 AND suspect = 0";
const _: () = assert!(QUARANTINE == 3, "the conditions and the indexes of the schema repeat this number");

/// Returns true if any item is in quarantine.
pub(super) fn any_quarantined(sql: &Sql) -> rusqlite::Result<bool> {
    Ok(sql.row(&any_quarantined_sql(), [], |row| row.get(0))? == Some(true))
}

fn any_quarantined_sql() -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM duroxide_instances WHERE owner IS NULL AND ready_at IS NOT NULL AND {QUARANTINED})
             OR EXISTS (SELECT 1 FROM duroxide_activities WHERE owner IS NULL AND parked IS NULL AND {QUARANTINED})"
    )
}

/// The items without an owner that the node of an epoch may claim for a request.
pub(super) struct Free<'a, 'c> {
    sql: &'a Sql<'c>,
    epoch: Epoch,
    want: &'a Want,
    queue: Queue,
    /// False if no activity in the queue has a tag.
    has_tagged: bool,
}

columns! {
    mod ready { READY_AT = "ready_at", SEQ = "seq", IS_PAUSED = "paused IS NOT NULL" }
}

impl<'a, 'c> Free<'a, 'c> {
    /// The items outside of quarantine.
    pub(super) fn new(sql: &'a Sql<'c>, epoch: Epoch, want: &'a Want, has_tagged: bool) -> Self {
        Self { sql, epoch, want, queue: Queue::FREE, has_tagged }
    }

    pub(super) fn quarantined(sql: &'a Sql<'c>, epoch: Epoch, want: &'a Want) -> Self {
        Self { sql, epoch, want, queue: Queue::QUARANTINED, has_tagged: true }
    }

    /// Reads the first instances of each requested orchestration, including those that are not due yet. Leaves out
    /// those that the build of the node has rejected, and those without a version if another member has a later one.
    pub(super) fn instances(&self, limit: usize) -> rusqlite::Result<Vec<FreeInstance>> {
        let mut names: Vec<&str> = self.want.orchestrations.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let members = MemberCode::read(self.sql)?;
        let mut free = Vec::new();
        for name in names.into_iter().filter(|name| !members.is_outdated(self.epoch, name)) {
            free.append(&mut self.instances_of(name, None, limit)?);
        }
        for (name, version) in &*self.want.orchestrations {
            free.append(&mut self.instances_of(name, Some(version.to_string()), limit)?);
        }
        Ok(free)
    }

    fn instances_of(&self, name: &str, version: Option<String>, limit: usize) -> rusqlite::Result<Vec<FreeInstance>> {
        let find = format!(
            "SELECT {} FROM duroxide_instances
             WHERE owner IS NULL AND ready_at IS NOT NULL AND name = ?1 AND version IS ?2 AND ready_at >= ?3
                 AND {} AND (suspension IS NULL OR paused IS NOT NULL OR NOT EXISTS (
                    SELECT 1 FROM duroxide_rejections r JOIN duroxide_nodes n ON n.build = r.build
                    WHERE r.instance = seq AND r.execution = 0 AND r.call = 0 AND n.epoch = ?5))
             ORDER BY ready_at LIMIT ?4",
            ready::list!(),
            self.queue.condition
        );
        let read = |from, most| {
            let params = (name, &version, from, most, int(self.epoch.0));
            self.sql.rows(&find, params, |row| {
                let since = read_ready(row.get(ready::READY_AT)?);
                Ok((since, (row.get(ready::SEQ)?, row.get(ready::IS_PAUSED)?)))
            })
        };
        let instance = |(since, (seq, paused))| FreeInstance {
            since,
            seq,
            name: name.to_owned(),
            version: version.clone(),
            paused,
        };
        Ok(first(limit, self.want.now, read)?.into_iter().map(instance).collect())
    }

    /// Reads those of the overdue activities that may be claimed, each with its name.
    pub(super) fn overdue(&self) -> rusqlite::Result<Vec<(String, FreeActivity)>> {
        let mut free = Vec::new();
        if self.want.overdue.is_empty() {
            return Ok(free);
        }
        let find = format!(
            "SELECT {}, a.name FROM duroxide_instances i JOIN duroxide_activities a ON a.instance = i.seq
             WHERE i.id = ?1 AND i.start_id = ?2 AND a.execution = ?3 AND a.call = ?4
                 AND a.owner IS NULL AND a.parked IS NULL
                 AND (?5 IS NULL OR a.tag IS NULL OR a.tag IN (SELECT value FROM json_each(?5)))
                 AND (a.crashes < {QUARANTINE} OR a.suspect = 1)
                 AND (a.rejected IS NULL OR NOT EXISTS (
                    SELECT 1 FROM duroxide_rejections r JOIN duroxide_nodes n ON n.build = r.build
                    WHERE r.instance = a.instance AND r.execution = a.execution AND r.call = a.call AND n.epoch = ?6))",
            activity_key::list!()
        );
        let (tags, since) = (self.tags(), Timestamp::MIN);
        for ActivityId { execution, call } in &self.want.overdue {
            let (identity, number) = (execution.identity.0.as_bytes(), int(execution.number));
            let params = (execution.instance.as_str(), identity, number, int(call.0), &tags, int(self.epoch.0));
            free.extend(self.sql.row(&find, params, |row| {
                Ok((row.get(activity_key::COUNT)?, FreeActivity { since, key: activity_key(row)? }))
            })?);
        }
        Ok(free)
    }

    /// Returns the tags of the request as JSON. `None`: the node serves all of them.
    fn tags(&self) -> Option<String> {
        self.want.tags.as_ref().map(|tags| serde_json::Value::from(tags.to_vec()).to_string())
    }

    /// Reads the first activities of a name, including those that are not due yet. Leaves out those that the build of
    /// the node has rejected.
    pub(super) fn activities(&self, name: &str, limit: usize) -> rusqlite::Result<Vec<FreeActivity>> {
        let (tags, epoch) = (self.tags().filter(|_| self.has_tagged), int(self.epoch.0));
        let find = match &tags {
            _ if !self.has_tagged => self.queue.untagged(),
            Some(_) => self.queue.with_tags(),
            None => self.queue.with_all_tags(),
        };
        let read = |from: i64, most: i64| {
            let params: [&dyn ToSql; 5] = [&name, &from, &most, &epoch, &tags];
            let params = if tags.is_some() { &params[..] } else { &params[..4] };
            let mut found = self
                .sql
                .rows(&find, params, |row| Ok((read_ready(row.get(activity_key::COUNT)?), activity_key(row)?)))?;
            // Each range is sorted, and limited, on its own.
            found.sort_by_key(|(ready, _)| *ready);
            found.truncate(limit);
            Ok(found)
        };
        let found = first(limit, self.want.now, read)?.into_iter();
        Ok(found.map(|(since, key)| FreeActivity { since, key }).collect())
    }
}

/// The items without an owner, either those in quarantine or the others, and the indexes of its activities: by name, tag and
/// time; and of those with a tag by name and time.
///
/// Statements name these indexes: activities with a tag that no node serves may pile up, and must not be read by a search
/// for others.
struct Queue {
    condition: &'static str,
    by_tag: &'static str,
    tagged: &'static str,
}

impl Queue {
    const FREE: Self =
        Self { condition: FREE, by_tag: "duroxide_activities_queue", tagged: "duroxide_activities_queue_tagged" };
    const QUARANTINED: Self = Self {
        condition: QUARANTINED,
        by_tag: "duroxide_activities_quarantined",
        tagged: "duroxide_activities_quarantined_tagged",
    };

    /// Returns a statement that reads the activities without a tag, from a time on.
    fn untagged(&self) -> String {
        self.range(self.by_tag, "IS NULL")
    }

    /// Returns a statement that reads the activities without a tag, and those with each tag of a list, from a time on.
    fn with_tags(&self) -> String {
        let range = self.range(self.by_tag, "IS t.tag");
        format!(
            "SELECT {}, a.visible_at
             FROM (SELECT NULL AS tag UNION SELECT value FROM json_each(?5)) t CROSS JOIN duroxide_activities a
             WHERE (a.instance, a.execution, a.call) IN (SELECT instance, execution, call FROM ({range}))",
            activity_key::list!()
        )
    }

    /// Returns a statement that reads the activities without a tag, and those with any tag, from a time on.
    fn with_all_tags(&self) -> String {
        let (untagged, tagged) = (self.untagged(), self.range(self.tagged, "IS NOT NULL"));
        format!("SELECT * FROM ({untagged}) UNION ALL SELECT * FROM ({tagged})")
    }

    /// Returns a statement that reads the first activities of a range.
    fn range(&self, index: &str, tag: &str) -> String {
        format!(
            "SELECT {}, a.visible_at FROM duroxide_activities a INDEXED BY {index}
             WHERE owner IS NULL AND parked IS NULL AND name = ?1 AND a.tag {tag} AND visible_at >= ?2 AND {}
                 AND (rejected IS NULL OR NOT EXISTS (
                    SELECT 1 FROM duroxide_rejections r JOIN duroxide_nodes n ON n.build = r.build
                    WHERE r.instance = a.instance AND r.execution = a.execution AND r.call = a.call AND n.epoch = ?4))
             ORDER BY visible_at LIMIT ?3",
            activity_key::list!(),
            self.condition
        )
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_for_quarantined_items_reads_nothing_else() {
        let connection = super::super::schema::in_memory();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", any_quarantined_sql())).unwrap();
        let plan: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        for index in ["duroxide_instances_quarantined", "duroxide_activities_quarantined"] {
            assert!(plan.iter().any(|step| step.contains(index)), "{index} is not used: {plan:#?}");
        }
    }
}
