//! The audit.

use std::time::Instant;

use duroxide::Timestamp;
use duroxide::id::{AuditId, BatchId};
use duroxide::provider::{AuditEntry, AuditPage, AuditQuery};
use tokio_postgres::Row;

use crate::admin::token;
use crate::connect::{Connection, Step, step};
use crate::fault::Fault;
use crate::rows::{instance_id, time};
use crate::search::Query;

/// The number of entries that one statement searches, unless an index finds those that match.
const WINDOW: i64 = 10_000;

const ADD: &str = "
    INSERT INTO audit (id, time, actor, via, action, instance, reason, detail, batch)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::uuid[])
    ON CONFLICT (id) DO NOTHING";

/// Returns the statement that writes entries, except those that were written before.
pub(crate) fn add<'a>(entries: &[&AuditEntry]) -> Option<Step<'a>> {
    // A text cannot hold the character zero.
    let text = |text: &str| text.replace('\0', "\u{fffd}");
    let column = |value: &dyn Fn(&AuditEntry) -> Option<String>| -> Vec<Option<String>> {
        entries.iter().map(|entry| value(entry)).collect()
    };
    (!entries.is_empty()).then(|| {
        step!(
            ADD,
            entries.iter().map(|entry| entry.id.0).collect::<Vec<_>>(),
            entries.iter().map(|entry| entry.time.as_micros()).collect::<Vec<_>>(),
            column(&|entry| Some(text(&entry.actor))),
            column(&|entry| entry.via.as_deref().map(text)),
            column(&|entry| Some(text(&entry.action))),
            column(&|entry| entry.instance.as_ref().map(ToString::to_string)),
            column(&|entry| entry.reason.as_deref().map(text)),
            column(&|entry| entry.detail.as_deref().map(text)),
            entries.iter().map(|entry| entry.batch.map(|batch| batch.0)).collect::<Vec<_>>(),
        )
    })
}

/// Writes entries.
pub(crate) async fn record(connection: &Connection, entries: &[AuditEntry]) -> Result<(), Fault> {
    let entries: Vec<_> = entries.iter().collect();
    match add(&entries) {
        Some(step) => connection.query(step).await.map(drop),
        None => Ok(()),
    }
}

/// Lists the entries with a number below `before`, newest first.
pub(crate) async fn list(
    connection: &Connection,
    query: &AuditQuery,
    before: i64,
    limit: usize,
    deadline: Instant,
) -> Result<AuditPage, Fault> {
    let limit = limit.max(1);
    let ends = "SELECT coalesce(min(number), 0) AS oldest, coalesce(max(number), 0) AS newest FROM audit";
    let ends = connection.query(step!(ends)).await?;
    let end_at = |name| ends.first().map_or(Ok(0), |row| row.try_get::<_, i64>(name));
    let (oldest, newest) = (end_at("oldest")?, end_at("newest")?);
    let mut end = before.min(newest.saturating_add(1));
    let is_indexed = query.instance.is_some() || query.batch.is_some();
    let mut page = AuditPage { entries: Vec::new(), next: None, complete: true };
    while end > oldest {
        let start = if is_indexed { oldest } else { end.saturating_sub(WINDOW) };
        let wanted = limit - page.entries.len();
        // Read one more than wanted, to see if there is another page.
        let mut found = matching(connection, query, (start, end), wanted.saturating_add(1)).await?;
        let has_more = found.len() > wanted;
        found.truncate(wanted);
        if has_more {
            page.next = found.last().map(|(number, _)| token(*number));
        }
        page.entries.extend(found.into_iter().map(|(_, entry)| entry));
        if has_more {
            return Ok(page);
        }
        end = start;
        if end > oldest && (page.entries.len() == limit || Instant::now() >= deadline) {
            page.complete = page.entries.len() == limit;
            page.next = Some(token(end));
            return Ok(page);
        }
    }
    Ok(page)
}

async fn matching(
    connection: &Connection,
    query: &AuditQuery,
    (start, end): (i64, i64),
    limit: usize,
) -> Result<Vec<(i64, AuditEntry)>, Fault> {
    let mut find = Query::default()
        .text(
            "SELECT number, id, time, actor, via, action, instance, reason, detail, batch FROM audit WHERE number >= ",
        )
        .value(start, "bigint")
        .text(" AND number < ")
        .value(end, "bigint");
    let texts = [
        (" AND instance = ", query.instance.as_ref().map(ToString::to_string)),
        (" AND actor = ", query.actor.clone()),
        (" AND action = ", query.action.clone()),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            // No stored text holds the character zero.
            find = find.text(condition).value(value.replace('\0', "\u{fffd}"), "text");
        }
    }
    if let Some(batch) = query.batch {
        find = find.text(" AND batch = ").value(batch.0, "uuid");
    }
    for (condition, value) in [(" AND time >= ", query.from), (" AND time < ", query.before)] {
        if let Some(value) = value {
            find = find.text(condition).value(value.as_micros(), "bigint");
        }
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = find.text(" ORDER BY number DESC LIMIT ").value(limit, "bigint").rows(connection).await?;
    rows.iter().map(|row| Ok((row.try_get("number")?, entry(row)?))).collect()
}

fn entry(row: &Row) -> Result<AuditEntry, Fault> {
    let has_instance = row.try_get::<_, Option<&str>>("instance")?.is_some();
    Ok(AuditEntry {
        id: AuditId(row.try_get("id")?),
        time: time(row, "time")?,
        actor: row.try_get("actor")?,
        via: row.try_get("via")?,
        action: row.try_get("action")?,
        instance: has_instance.then(|| instance_id(row, "instance")).transpose()?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        batch: row.try_get::<_, Option<_>>("batch")?.map(BatchId),
    })
}

/// Removes entries that are older than a time, oldest first. Returns their number.
pub(crate) async fn prune(connection: &Connection, before: Timestamp, limit: usize) -> Result<u64, Fault> {
    let delete = "WITH gone AS (DELETE FROM audit WHERE number IN (
        SELECT number FROM audit WHERE time < $1 ORDER BY time, number LIMIT $2) RETURNING 1)
        SELECT count(*) AS removed FROM gone";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = connection.query(step!(delete, before.as_micros(), limit)).await?;
    let removed = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>("removed"))?;
    Ok(removed.unsigned_abs())
}
