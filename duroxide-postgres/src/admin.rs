//! Lists, nodes and removals. They have a connection of their own, so that a slow list delays no turn.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use duroxide::Timestamp;
use duroxide::id::{Epoch, InstanceId, NodeId};
use duroxide::provider::{
    AuditEntry, DeleteError, Filter, Handlers, InstancePage, InstanceStatus, NodeDetails, NodeInfo, NodeRecord,
    PageToken, ProviderError, Pruned, Signals,
};
use tokio_postgres::Row;

use crate::audit;
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::reads::{record, record_columns, record_tables};
use crate::remove;
use crate::rows::{instance_id, int, natural, node_report, optional, optional_time, status};
use crate::search::{Order, Search, arrived_by};
use crate::state::State;
use crate::work::Work;

/// The number of entries that one transaction removes: other writers pass between two of them.
const REMOVED_AT_ONCE: usize = 64;

/// Makes a token of the arrival number at which a search continues.
pub(crate) fn token(number: i64) -> PageToken {
    PageToken::new(format!("a{number}"))
}

/// Reads a token that [`token`] made.
pub(crate) fn arrival(token: &PageToken, operation: &'static str) -> Result<i64, ProviderError> {
    let digits = token.as_str().strip_prefix('a').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| token.refused(operation))
}

/// Lists the instances that arrived before number `before`, newest first.
pub(crate) async fn list(
    connection: &Connection,
    filter: &Filter,
    before: i64,
    limit: usize,
    deadline: Instant,
) -> Result<InstancePage, Fault> {
    let limit = limit.max(1);
    let mut search = Search::new(connection, filter, Order::NewestFirst, 0..before).await?;
    let mut page = InstancePage { instances: Vec::new(), next: None, searched: 0, complete: true };
    while let Some(window) = search.window().await? {
        let wanted = limit - page.instances.len();
        // Read one more than wanted, to see if there is another page.
        let rows = search
            .matches(&window, record_columns!(), record_tables!())
            .text(" ORDER BY i.seq DESC LIMIT ")
            .value(i64::try_from(wanted.saturating_add(1)).unwrap_or(i64::MAX), "bigint")
            .rows(connection)
            .await?;
        let has_more = rows.len() > wanted;
        let shown = &rows[..rows.len().min(wanted)];
        let last = shown.last().filter(|_| has_more).map(|row| row.try_get("seq")).transpose()?;
        let searched = last.unwrap_or(window.range.start)..window.range.end;
        page.searched += search.entries(&searched).await?;
        for row in shown {
            page.instances.push(record(row)?);
        }
        search.advance(&window);
        let is_full = page.instances.len() == limit;
        page.complete = is_full || window.is_last || Instant::now() < deadline;
        if has_more || (!window.is_last && (is_full || !page.complete)) {
            page.next = Some(token(searched.start));
            return Ok(page);
        }
    }
    Ok(page)
}

const NODES: &str = "
    SELECT n.epoch, n.id, n.name, n.build, n.orchestrations, n.activities, n.tags, n.lease, n.host, n.process, n.started_at,
        coalesce(o.instances, 0) AS owned_instances, coalesce(a.activities, 0) AS owned_activities,
        (extract(epoch FROM n.expires_at) * 1000000)::bigint - n.lease AS seen_at, n.report
    FROM nodes n
    LEFT JOIN (SELECT owner, count(*) AS instances FROM live WHERE owner IS NOT NULL GROUP BY owner) o ON o.owner = n.epoch
    LEFT JOIN (SELECT owner, count(*) AS activities FROM activities WHERE owner IS NOT NULL GROUP BY owner) a
        ON a.owner = n.epoch
    WHERE NOT n.dead ORDER BY n.epoch";

/// Lists the members.
pub(crate) async fn nodes(connection: &Connection) -> Result<Vec<NodeRecord>, Fault> {
    let rows = connection.query(step!(NODES)).await?;
    let record = |row: &Row| {
        let (epoch, info) = node(row)?;
        let (instances, activities) = (natural(row, "owned_instances")?, natural(row, "owned_activities")?);
        let report = node_report(row)?;
        Ok(NodeRecord { info, epoch, instances, activities, seen_at: optional_time(row, "seen_at")?, report })
    };
    rows.iter().map(record).collect()
}

/// Reads a member, or a departed node.
pub(crate) fn node(row: &Row) -> Result<(Epoch, NodeInfo), Fault> {
    let json = |error: serde_json::Error| Fault::Unreadable(format!("a list of a node cannot be read: {error}"));
    let tags: Option<&str> = row.try_get("tags")?;
    let handlers = Handlers {
        orchestrations: serde_json::from_str(row.try_get("orchestrations")?).map_err(json)?,
        activities: serde_json::from_str(row.try_get("activities")?).map_err(json)?,
        tags: tags.map(serde_json::from_str).transpose().map_err(json)?,
    };
    let info = NodeInfo {
        id: NodeId(row.try_get("id")?),
        name: row.try_get("name")?,
        build: row.try_get("build")?,
        handlers,
        lease_time: Duration::from_micros(natural(row, "lease")?),
        details: NodeDetails {
            host: row.try_get("host")?,
            process: optional(row, "process")?.and_then(|process| u32::try_from(process).ok()),
            started_at: optional_time(row, "started_at")?,
            ..NodeDetails::default()
        },
    };
    Ok((Epoch(natural(row, "epoch")?), info))
}

/// Removes finished instances. The results are in the order of the ids.
pub(crate) async fn delete(
    connection: &Connection,
    state: &State,
    ids: &[InstanceId],
    entries: &[AuditEntry],
) -> Result<Vec<Result<(), DeleteError>>, Fault> {
    let mut results = Vec::with_capacity(ids.len());
    for (n, some) in ids.chunks(REMOVED_AT_ONCE).enumerate() {
        let entries = entries.chunks(REMOVED_AT_ONCE).nth(n).unwrap_or_default();
        let (mut found, signals) = delete_some(connection, some, entries).await?;
        state.signal(signals, Work::default());
        results.extend(some.iter().map(|id| match found.remove(id) {
            Some((_, status)) if status.is_finished() => Ok(()),
            Some((_, status)) => {
                found.insert(id.clone(), (0, status));
                Err(DeleteError::Live(status))
            }
            None => Err(DeleteError::NotFound),
        }));
    }
    Ok(results)
}

/// The attempts of a removal whose instances others replace.
const ATTEMPTS: u32 = 5;

async fn delete_some(
    connection: &Connection,
    ids: &[InstanceId],
    entries: &[AuditEntry],
) -> Result<(Found, Signals), Fault> {
    let lock = "SELECT id, seq, status FROM instances WHERE id = ANY ($1::text[]) ORDER BY id FOR UPDATE";
    let replaced = "SELECT 1 FROM instances WHERE id = ANY ($1::text[]) LIMIT 1";
    for _ in 0..ATTEMPTS {
        let done = connection.transaction(async |connection| {
            let names: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
            let (found, signals) = remove_locked(connection, &connection.query(step!(lock, names)).await?).await?;
            // While the first statement waited for the lock of an instance, another transaction may have replaced it. The
            // snapshot of that statement does not show the new one.
            let is_missing = |id: &&InstanceId| !found.contains_key(*id);
            let missing: Vec<&str> = ids.iter().filter(is_missing).map(InstanceId::as_str).collect();
            if !missing.is_empty() && !connection.query(step!(replaced, missing)).await?.is_empty() {
                return Err(Fault::Contended);
            }
            let is_removed = |id: &InstanceId| found.get(id).is_some_and(|(_, status)| status.is_finished());
            let removed = ids.iter().zip(entries).filter(|(id, _)| is_removed(id)).map(|(_, entry)| entry);
            if let Some(step) = audit::add(&removed.collect::<Vec<_>>()) {
                connection.query(step).await?;
            }
            Ok((found, signals))
        });
        match done.await {
            Err(Fault::Contended) => {}
            done => return done,
        }
    }
    Err(Fault::Contended)
}

type Found = HashMap<InstanceId, (i64, InstanceStatus)>;

/// Removes the finished instances of locked rows. Returns all of the rows.
async fn remove_locked(connection: &Connection, rows: &[Row]) -> Result<(Found, Signals), Fault> {
    let mut found = Found::new();
    for row in rows {
        found.insert(instance_id(row, "id")?, (row.try_get("seq")?, status(row, "status")?));
    }
    let finished = || found.iter().filter(|(_, (_, status))| status.is_finished());
    let seqs: Vec<i64> = finished().map(|(_, (seq, _))| *seq).collect();
    let mut signals = Signals::default();
    if !seqs.is_empty() {
        signals.work = !remove::remove(connection, &seqs).await?.is_empty();
        finished().for_each(|(id, _)| signals.changed(id));
    }
    Ok((found, signals))
}

/// An entry that may be pruned: an instance, or one of its executions. Entries are ordered by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    seq: i64,
    execution: Option<i64>,
}

/// Removes up to `limit` entries that are due, oldest first, of instances with an arrival number above `after`.
pub(crate) async fn prune(
    connection: &Connection,
    state: &State,
    filter: &Filter,
    before: Timestamp,
    (after, limit): (i64, usize),
    deadline: Instant,
) -> Result<Pruned, Fault> {
    let (due, next) = prunable(connection, filter, before, (after, limit.max(1)), deadline).await?;
    let mut executions = 0;
    for some in due.chunks(REMOVED_AT_ONCE) {
        let (removed, signals) =
            connection.transaction(async |connection| remove_due(connection, some, before).await).await?;
        executions += removed;
        state.signal(signals, Work::default());
    }
    Ok(Pruned { executions, next: next.map(token) })
}

/// Finds entries that are due. Also returns the number after which the next search begins, unless this search has covered
/// all instances. Instances that arrived too late to be due are not searched.
async fn prunable(
    connection: &Connection,
    filter: &Filter,
    before: Timestamp,
    (after, limit): (i64, usize),
    deadline: Instant,
) -> Result<(Vec<Entry>, Option<i64>), Fault> {
    let range = after.saturating_add(1)..arrived_by(connection, before).await?;
    let mut search = Search::new(connection, filter, Order::OldestFirst, range).await?;
    let mut due: Vec<Entry> = Vec::new();
    while let Some(window) = search.window().await? {
        // Read one more than wanted, to see if there is another batch.
        let wanted = i64::try_from((limit - due.len()).saturating_add(1)).unwrap_or(i64::MAX);
        let finished = search
            .matches(&window, "i.seq, NULL::bigint AS number", "")
            .text(" AND i.finished_at < ")
            .value(before.as_micros(), "bigint");
        // A detached activity still needs the event that scheduled it.
        let continued = search
            .matches(&window, "i.seq, x.number", "JOIN executions x ON x.instance = i.seq")
            .text(" AND NOT EXISTS (SELECT 1 FROM activities a WHERE a.instance = i.seq AND a.execution = x.number)")
            .text(" AND x.continued_at < ")
            .value(before.as_micros(), "bigint")
            .text(" AND (i.finished_at IS NULL OR i.finished_at >= ")
            .value(before.as_micros(), "bigint")
            .text(")");
        let mut found = Vec::new();
        for query in [finished, continued] {
            let rows = query.text(" ORDER BY 1, 2 LIMIT ").value(wanted, "bigint").rows(connection).await?;
            for row in rows {
                found.push(Entry { seq: row.try_get("seq")?, execution: row.try_get("number")? });
            }
        }
        found.sort_unstable();
        due.append(&mut found);
        search.advance(&window);
        if due.len() > limit {
            // The next search begins with the instance of the first remaining entry.
            let next = due.get(limit).map(|entry| entry.seq - 1);
            due.truncate(limit);
            return Ok((due, next));
        }
        if !window.is_last && (due.len() == limit || Instant::now() >= deadline) {
            return Ok((due, Some(search.position())));
        }
    }
    Ok((due, None))
}

/// Removes entries that may still be pruned. Returns the number of removed executions.
async fn remove_due(connection: &Connection, entries: &[Entry], before: Timestamp) -> Result<(u64, Signals), Fault> {
    let whole: Vec<i64> = entries.iter().filter(|entry| entry.execution.is_none()).map(|entry| entry.seq).collect();
    let lock = "SELECT id, seq, status FROM instances WHERE seq = ANY ($1::bigint[]) AND finished_at < $2
        ORDER BY id FOR UPDATE";
    let rows = connection.query(step!(lock, whole, before.as_micros())).await?;
    let seqs: Vec<i64> = rows.iter().map(|row| Ok(row.try_get("seq")?)).collect::<Result<_, Fault>>()?;
    let count =
        "SELECT instance, count(*) AS executions FROM executions WHERE instance = ANY ($1::bigint[]) GROUP BY 1";
    let counted = connection.query(step!(count, seqs.clone())).await?;
    let counted: Result<BTreeMap<i64, u64>, Fault> =
        counted.iter().map(|row| Ok((row.try_get("instance")?, natural(row, "executions")?))).collect();
    let mut executions = counted?.values().sum::<u64>() + seqs.len() as u64;
    let (_, signals) = remove_locked(connection, &rows).await?;
    let parts: Vec<(i64, i64)> = entries.iter().filter_map(|entry| Some((entry.seq, entry.execution?))).collect();
    if !parts.is_empty() {
        let column = |value: fn(&(i64, i64)) -> i64| parts.iter().map(value).collect::<Vec<i64>>();
        let remove = "DELETE FROM executions x USING unnest($1::bigint[], $2::bigint[]) AS t (instance, number)
            WHERE x.instance = t.instance AND x.number = t.number AND NOT EXISTS (
                SELECT 1 FROM activities a WHERE a.instance = t.instance AND a.execution = t.number)
            RETURNING x.instance, x.number";
        let removed = connection.query(step!(remove, column(|part| part.0), column(|part| part.1))).await?;
        executions += removed.len() as u64;
        let column = |name: &str| removed.iter().map(|row| Ok(row.try_get(name)?)).collect::<Result<Vec<i64>, Fault>>();
        let events = "DELETE FROM events e USING unnest($1::bigint[], $2::bigint[]) AS t (instance, number)
            WHERE e.instance = t.instance AND e.execution = t.number";
        connection.query(step!(events, column("instance")?, column("number")?)).await?;
        let attempts = "DELETE FROM attempts f USING unnest($1::bigint[], $2::bigint[]) AS t (instance, number)
            WHERE f.instance = t.instance AND f.execution = t.number";
        connection.query(step!(attempts, column("instance")?, column("number")?)).await?;
    }
    Ok((executions, signals))
}

/// Returns the deadline of a search.
pub(crate) fn deadline(time_limit: Duration) -> Instant {
    let now = Instant::now();
    // On overflow, use thirty years, which is as good as no limit.
    now.checked_add(time_limit).unwrap_or_else(|| now + Duration::from_secs(1_000_000_000))
}

/// Returns the token of a page as an arrival number.
pub(crate) fn position(token: Option<&PageToken>, first: u64, operation: &'static str) -> Result<i64, ProviderError> {
    token.map_or(Ok(int(first)), |token| arrival(token, operation))
}
