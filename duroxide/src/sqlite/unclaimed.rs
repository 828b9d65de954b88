//! Work of an instance that is due but that no node can run.

use rusqlite::Row;

use super::columns::columns;
use super::members::{self, node};
use super::rows::read_ready;
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::provider::{Handlers, InstanceRecord, Unclaimed};

columns! {
    /// An activity without an owner.
    mod waiting { NAME = "name", TAG = "tag", VISIBLE_AT = "visible_at" }
}

/// Finds the oldest work that no node can run. `ready_at`: the instance itself has been ready since then.
pub(super) fn find(
    sql: &Sql,
    seq: i64,
    record: &InstanceRecord,
    ready_at: Option<Timestamp>,
    now: Timestamp,
) -> rusqlite::Result<Option<Unclaimed>> {
    let find = concat!(
        "SELECT ",
        waiting::list!(),
        " FROM duroxide_activities
        WHERE instance = ?1 AND owner IS NULL AND parked IS NULL AND visible_at <= ?2 ORDER BY execution, call"
    );
    let read = |row: &Row<'_>| {
        let since = read_ready(row.get(waiting::VISIBLE_AT)?).since(now);
        Ok((row.get(waiting::NAME)?, row.get(waiting::TAG)?, since))
    };
    let waiting: Vec<(String, Option<String>, Timestamp)> = sql.rows(find, (seq, now.as_micros()), read)?;
    if waiting.is_empty() && ready_at.is_none() {
        return Ok(None);
    }
    let nodes = sql.rows(concat!("SELECT ", node::list!(), " FROM duroxide_nodes n"), [], members::node)?;
    let any = |can_run: &dyn Fn(&Handlers) -> bool| nodes.iter().any(|(_, info)| can_run(&info.handlers));
    let itself = ready_at.filter(|_| !any(&|handlers| has_code(handlers, record)));
    let itself = itself.map(|since| Unclaimed { what: orchestration(record), since });
    let unserved = waiting.into_iter().filter(|(name, tag, _)| !any(&|handlers| serves(handlers, name, tag.as_ref())));
    let activities = unserved.map(|(name, tag, since)| {
        let tag = tag.map(|tag| format!(" with tag {tag}")).unwrap_or_default();
        Unclaimed { what: format!("activity {name}{tag}"), since }
    });
    Ok(itself.into_iter().chain(activities).min_by_key(|unclaimed| unclaimed.since))
}

fn orchestration(record: &InstanceRecord) -> String {
    let version = record.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("orchestration {}{version}", record.name)
}

fn has_code(handlers: &Handlers, record: &InstanceRecord) -> bool {
    let pinned = record.version.as_ref();
    handlers.orchestrations.iter().any(|(name, version)| *name == record.name && pinned.is_none_or(|p| p == version))
}

fn serves(handlers: &Handlers, name: &String, tag: Option<&String>) -> bool {
    let serves_tag = match (&handlers.tags, tag) {
        (Some(tags), Some(tag)) => tags.contains(tag),
        _ => true,
    };
    serves_tag && handlers.activities.contains(name)
}
