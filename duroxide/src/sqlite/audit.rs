//! The audit.

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::admin::unless_interrupted;
use super::admin_reader::Deadline;
use super::columns::columns;
use super::rows::{instance_id, int, time, uuid};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{AuditId, BatchId};
use crate::provider::{AuditEntry, AuditPage, AuditQuery, PageToken};

/// The number of entries that one statement searches, unless an index finds those that match.
const WINDOW: i64 = 10_000;

columns! {
    /// An entry.
    mod entry {
        NUMBER = "number",
        ID = "id",
        TIME = "time",
        ACTOR = "actor",
        VIA = "via",
        ACTION = "action",
        INSTANCE = "instance",
        REASON = "reason",
        DETAIL = "detail",
        BATCH = "batch",
    }
}

/// Writes an entry, unless it was written before.
pub(super) fn record(tx: &Tx<'_>, entry: &AuditEntry) -> rusqlite::Result<()> {
    let insert = "INSERT INTO duroxide_audit (id, time, actor, via, action, instance, reason, detail, batch)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING";
    let params = (
        entry.id.0.as_bytes(),
        entry.time.as_micros(),
        &entry.actor,
        &entry.via,
        &entry.action,
        entry.instance.as_ref().map(|instance| instance.as_str()),
        &entry.reason,
        &entry.detail,
        entry.batch.map(|batch| batch.0.into_bytes()),
    );
    tx.sql.run(insert, params).map(drop)
}

/// Lists the entries with a number below `before`, newest first.
pub(super) fn list(
    sql: &Sql,
    query: &AuditQuery,
    before: i64,
    limit: usize,
    deadline: Deadline,
) -> rusqlite::Result<AuditPage> {
    let limit = limit.max(1);
    let newest = sql.row("SELECT coalesce(max(number), 0) FROM duroxide_audit", [], |row| row.get::<_, i64>(0))?;
    let oldest = sql.row("SELECT coalesce(min(number), 0) FROM duroxide_audit", [], |row| row.get::<_, i64>(0))?;
    let mut end = before.min(newest.unwrap_or(0).saturating_add(1));
    let oldest = oldest.unwrap_or(0);
    let is_indexed = query.instance.is_some() || query.batch.is_some();
    let mut page = AuditPage { entries: Vec::new(), next: None, complete: true };
    while end > oldest {
        let start = if is_indexed { oldest } else { end.saturating_sub(WINDOW) };
        let wanted = limit - page.entries.len();
        // Read one more than wanted, to see if there is another page.
        let Some(mut found) = unless_interrupted(matching(sql, query, start, end, wanted.saturating_add(1)))? else {
            (page.next, page.complete) = (Some(PageToken::of_arrival(end)), false);
            return Ok(page);
        };
        if found.len() > wanted {
            found.truncate(wanted);
            page.next = found.last().map(|(number, _)| PageToken::of_arrival(*number));
            page.entries.extend(found.into_iter().map(|(_, entry)| entry));
            return Ok(page);
        }
        page.entries.extend(found.into_iter().map(|(_, entry)| entry));
        end = start;
        if end > oldest && (page.entries.len() == limit || deadline.has_passed()) {
            page.complete = page.entries.len() == limit;
            page.next = Some(PageToken::of_arrival(end));
            return Ok(page);
        }
    }
    Ok(page)
}

fn matching(
    sql: &Sql,
    query: &AuditQuery,
    start: i64,
    end: i64,
    limit: usize,
) -> rusqlite::Result<Vec<(i64, AuditEntry)>> {
    let mut find =
        concat!("SELECT ", entry::list!(), " FROM duroxide_audit WHERE number >= ? AND number < ?").to_owned();
    let mut params: Vec<Value> = vec![start.into(), end.into()];
    let conditions: [(&str, Option<Value>); 6] = [
        (" AND instance = ?", query.instance.as_ref().map(|instance| instance.as_str().to_owned().into())),
        (" AND batch = ?", query.batch.map(|batch| batch.0.as_bytes().to_vec().into())),
        (" AND actor = ?", query.actor.clone().map(Value::from)),
        (" AND action = ?", query.action.clone().map(Value::from)),
        (" AND time >= ?", query.from.map(|from| from.as_micros().into())),
        (" AND time < ?", query.before.map(|before| before.as_micros().into())),
    ];
    for (condition, value) in conditions {
        if let Some(value) = value {
            find += condition;
            params.push(value);
        }
    }
    find += " ORDER BY number DESC LIMIT ?";
    params.push(int(limit as u64).into());
    sql.rows(&find, params_from_iter(params), |row| Ok((row.get(entry::NUMBER)?, read(row)?)))
}

fn read(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let batch = row.get::<_, Option<[u8; 16]>>(entry::BATCH)?;
    Ok(AuditEntry {
        id: AuditId(uuid(row, entry::ID)?),
        time: time(row, entry::TIME)?,
        actor: row.get(entry::ACTOR)?,
        via: row.get(entry::VIA)?,
        action: row.get(entry::ACTION)?,
        instance: row
            .get_ref(entry::INSTANCE)?
            .as_str_or_null()?
            .map(|_| instance_id(row, entry::INSTANCE))
            .transpose()?,
        reason: row.get(entry::REASON)?,
        detail: row.get(entry::DETAIL)?,
        batch: batch.map(|bytes| BatchId(uuid::Uuid::from_bytes(bytes))),
    })
}

/// Removes entries that are older than a time, oldest first. Returns their number.
pub(super) fn prune(tx: &Tx<'_>, before: Timestamp, limit: usize) -> rusqlite::Result<u64> {
    let delete = "DELETE FROM duroxide_audit WHERE number IN (
        SELECT number FROM duroxide_audit WHERE time < ?1 ORDER BY time, number LIMIT ?2)";
    tx.sql.run(delete, (before.as_micros(), int(limit as u64))).map(|removed| removed as u64)
}
