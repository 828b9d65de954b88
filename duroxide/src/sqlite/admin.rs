//! Lists, nodes and removals. Reads go through [`AdminReader`](super::admin_reader::AdminReader), removals through the
//! writer, a few at a time.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::{ErrorCode, Row};

use super::admin_reader::Deadline;
use super::columns::columns;
use super::fault::Refusal;
use super::lock::NodeLock;
use super::members::{self, node};
use super::records::record;
use super::rows::{natural, node_report};
use super::search::{Order, Query, Search};
use super::sql::Sql;
use super::tx::Tx;
use super::{SqliteProvider, attempts, audit, departed, graft, groups, handle, previews, remove};
use crate::clock::Timestamp;
use crate::id::{ExecutionId, InstanceId};
use crate::provider::{
    Admin, AuditEntry, AuditPage, AuditQuery, BuildRecord, DeleteError, DepartedNode, Dimension, EventPreviews, Filter,
    Groups, HistoryQuery, InstanceActivities, InstancePage, InstanceRows, MessagePreviews, NodeRecord, Page, PageToken,
    ProviderError, Pruned, Subject,
};

impl Admin for SqliteProvider {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        const OPERATION: &str = "list instances";
        Box::pin(async move {
            let before = page.after.as_ref().map_or(Ok(i64::MAX), |token| token.arrival(OPERATION))?;
            let (filter, limit) = (filter.clone(), page.limit);
            let list = move |sql: &Sql, deadline| list(sql, &filter, before, limit, deadline);
            self.handle.admin.read(OPERATION, page.time_limit, list).await
        })
    }

    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        time_limit: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>> {
        let (filter, by) = (filter.clone(), by.to_vec());
        let count = move |sql: &Sql, deadline| groups::groups(sql, of, &filter, &by, deadline);
        Box::pin(self.handle.admin.read("count groups", time_limit, count))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        let shared = self.handle.shared.clone();
        let list = move |sql: &Sql, _| nodes(sql, &shared.path);
        Box::pin(self.handle.admin.read("list nodes", Page::DEFAULT_TIME_LIMIT, list))
    }

    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>> {
        let list = move |sql: &Sql, _| departed::list(sql, limit);
        Box::pin(self.handle.admin.read("list departed nodes", Page::DEFAULT_TIME_LIMIT, list))
    }

    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>> {
        Box::pin(self.handle.admin.read("list builds", Page::DEFAULT_TIME_LIMIT, |sql, _| departed::builds(sql)))
    }

    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>> {
        let instance = instance.clone();
        let read = move |sql: &Sql, _| attempts::activities(sql, &instance);
        Box::pin(self.handle.admin.read("read activities", Page::DEFAULT_TIME_LIMIT, read))
    }

    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>> {
        let (execution, query) = (execution.clone(), *query);
        let read = move |sql: &Sql, _| previews::previews(sql, &execution, &query);
        Box::pin(self.handle.admin.read("read events", Page::DEFAULT_TIME_LIMIT, read))
    }

    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>> {
        let instance = instance.clone();
        let read = move |sql: &Sql, _| previews::messages(sql, &instance);
        Box::pin(self.handle.admin.read("read messages", Page::DEFAULT_TIME_LIMIT, read))
    }

    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>> {
        let instance = instance.clone();
        let read = move |sql: &Sql, _| graft::rows(sql, &instance);
        Box::pin(self.handle.admin.read("read rows", Page::DEFAULT_TIME_LIMIT, read))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(instances.len());
            let audit = audit.iter().cloned().map(Some).chain(std::iter::repeat(None));
            let all: Vec<_> = instances.iter().cloned().zip(audit).collect();
            for some in all.chunks(handle::REMOVED_AT_ONCE) {
                results.extend(self.handle.write_all("delete instances", some.to_vec(), delete).await?);
            }
            Ok(results)
        })
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        const OPERATION: &str = "prune instances";
        Box::pin(async move {
            let after = batch.after.as_ref().map_or(Ok(0), |token| token.arrival(OPERATION))?;
            let (filter, limit) = (filter.clone(), batch.limit);
            let find = move |sql: &Sql, deadline| remove::prunable(sql, &filter, before, after, limit, deadline);
            let (mut due, next) = self.handle.admin.read(OPERATION, batch.time_limit, find).await?;
            let mut executions = 0;
            while !due.is_empty() {
                let some = due.drain(..due.len().min(handle::REMOVED_AT_ONCE)).collect();
                executions += self.handle.write_all(OPERATION, some, remove::prune).await?.into_iter().sum::<u64>();
            }
            Ok(Pruned { executions, next: next.map(PageToken::of_arrival) })
        })
    }

    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>> {
        let write = |tx: &mut Tx<'_>, entry: &AuditEntry| Ok(audit::record(tx, entry)?);
        Box::pin(
            async move { self.handle.write_all("write the audit", entries.to_vec(), write).await.map(|_: Vec<()>| ()) },
        )
    }

    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>> {
        const OPERATION: &str = "list the audit";
        Box::pin(async move {
            let before = page.after.as_ref().map_or(Ok(i64::MAX), |token| token.arrival(OPERATION))?;
            let (query, limit) = (query.clone(), page.limit);
            let list = move |sql: &Sql, deadline| audit::list(sql, &query, before, limit, deadline);
            self.handle.admin.read(OPERATION, page.time_limit, list).await
        })
    }

    fn prune_audit(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>> {
        Box::pin(self.handle.write_one("prune the audit", move |tx| Ok(audit::prune(tx, before, limit)?)))
    }
}

/// Removes a finished instance, and writes the entry of the audit for it.
fn delete(
    tx: &mut Tx<'_>,
    (instance, entry): &(InstanceId, Option<AuditEntry>),
) -> Result<Result<(), DeleteError>, Refusal<rusqlite::Error>> {
    let deleted = remove::delete(tx, instance)?;
    if let (Ok(()), Some(entry)) = (&deleted, entry) {
        audit::record(tx, entry)?;
    }
    Ok(deleted)
}

/// Lists the instances that arrived before number `before`, newest first.
pub(super) fn list(
    sql: &Sql,
    filter: &Filter,
    before: i64,
    limit: usize,
    deadline: Deadline,
) -> rusqlite::Result<InstancePage> {
    let limit = limit.max(1);
    let mut search = Search::new(sql, filter, Order::NewestFirst, i64::MIN..before)?;
    let mut page = InstancePage { instances: Vec::new(), next: None, searched: 0, complete: true };
    loop {
        let wanted = limit - page.instances.len();
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(record::SEQ)?, record(row)?));
        // Read one more than wanted, to see if there is another page.
        let Some(found) = unless_interrupted(search.next(&[records(wanted.saturating_add(1))], read))? else {
            page.complete = false;
            page.next = Some(PageToken::of_arrival(search.position()));
            return Ok(page);
        };
        let Some((window, mut found)) = found else { return Ok(page) };
        let has_more = found.len() > wanted;
        found.truncate(wanted);
        let last = found.last().map(|(seq, _)| *seq).filter(|_| has_more);
        let searched = last.unwrap_or(window.range.start)..window.range.end;
        page.searched += unless_interrupted(search.entries(&window, &searched))?.unwrap_or_default();
        page.instances.extend(found.into_iter().map(|(_, record)| record));
        let is_full = page.instances.len() == limit;
        page.complete = is_full || window.is_last || !deadline.has_passed();
        if has_more || (!window.is_last && (is_full || !page.complete)) {
            page.next = Some(PageToken::of_arrival(searched.start));
            return Ok(page);
        }
    }
}

/// Returns the query of whole records.
pub(super) fn records(limit: usize) -> Query {
    Query {
        columns: record::list!().into(),
        joined: "".into(),
        joined_params: Vec::new(),
        condition: String::new(),
        params: Vec::new(),
        group_by: None,
        then_by: "",
        limit,
    }
}

/// Returns the answer of a read, or `None` if it was interrupted at its deadline.
pub(super) fn unless_interrupted<T>(read: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match read {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

columns! {
    /// The numbers of items that member `n` owns. They follow the columns of [`node`].
    mod owned {
        INSTANCES = "(SELECT count(*) FROM duroxide_instances i WHERE i.owner = n.epoch)",
        ACTIVITIES = "coalesce(o.activities, 0)",
        SEEN_AT = "n.seen_at",
        REPORT = "n.report",
    }
}

fn nodes(sql: &Sql, database: &Path) -> rusqlite::Result<Vec<NodeRecord>> {
    // No index leads from a node to its activities, so they are counted for all nodes in one scan.
    let find = concat!(
        "SELECT ",
        node::list!(),
        ", ",
        owned::list!(),
        " FROM duroxide_nodes n LEFT JOIN (
             SELECT owner, count(*) AS activities FROM duroxide_activities WHERE owner IS NOT NULL GROUP BY owner
         ) o ON o.owner = n.epoch ORDER BY n.epoch"
    );
    sql.rows(find, [], |row: &Row<'_>| {
        let (epoch, info) = members::node(row)?;
        let instances = natural(row, node::COUNT + owned::INSTANCES)?;
        let activities = natural(row, node::COUNT + owned::ACTIVITIES)?;
        let recorded = row.get::<_, Option<i64>>(node::COUNT + owned::SEEN_AT)?.map(Timestamp::from_micros);
        // With each heartbeat, a node changes its lock file, or its row if it has no lock.
        let seen_at = recorded.max(NodeLock::last_beat(database, info.id));
        let report = node_report(row, node::COUNT + owned::REPORT)?;
        Ok(NodeRecord { info, epoch, instances, activities, seen_at, report })
    })
}
