//! Removal of the rows of instances and executions that are gone, in bounded parts.
//!
//! An instance can have millions of rows. Its removal deletes the row of the instance, from which all others are found,
//! and so is atomic. Rows of its histories beyond a budget are left to later transactions: an entry in
//! `duroxide_removals` names them, and the writer deletes a part of them with each transaction, and while it is idle. If
//! the process ends in between, the next one that opens the database continues.

use super::columns::columns;
use super::rows::int;
use super::sql::Sql;
use super::tx::Tx;

/// The number of rows that one transaction removes, a few milliseconds of work.
pub(super) const ROWS: usize = 2000;
/// The cost of a payload in rows: it is longer than a page.
const PAYLOAD: usize = 16;

/// The rows of an instance that is gone, or of one of its executions.
#[derive(Clone, Copy)]
pub(super) struct Removal {
    pub(super) instance: i64,
    /// Zero: all.
    pub(super) execution: i64,
}

impl Removal {
    /// Removes rows within the budget of the transaction, and records the rest.
    pub(super) fn begin(self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        if !self.remove(tx)? {
            let insert = "INSERT OR IGNORE INTO duroxide_removals (instance, execution) VALUES (?1, ?2)";
            tx.sql.run(insert, (self.instance, self.execution))?;
            tx.left_rows = true;
            tx.forget_removals();
        }
        Ok(())
    }

    /// Removes rows within the budget of the transaction. Returns true if none are left.
    fn remove(self, tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
        if self.execution == 0 { self.remove_instance(tx) } else { self.remove_execution(tx) }
    }

    fn remove_instance(self, tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
        for (delete, cost) in [
            (
                "DELETE FROM duroxide_events WHERE instance = ?1 AND (execution, id) IN (
                     SELECT execution, id FROM duroxide_events WHERE instance = ?1 ORDER BY execution, id LIMIT ?2)",
                1,
            ),
            (
                "DELETE FROM duroxide_attempts WHERE instance = ?1 AND (execution, call, attempt) IN (
                     SELECT execution, call, attempt FROM duroxide_attempts WHERE instance = ?1 LIMIT ?2)",
                1,
            ),
            (
                "DELETE FROM duroxide_executions WHERE instance = ?1 AND number IN (
                     SELECT number FROM duroxide_executions WHERE instance = ?1 ORDER BY number LIMIT ?2)",
                1,
            ),
            (
                "DELETE FROM duroxide_payloads WHERE id IN (
                     SELECT id FROM duroxide_payloads WHERE instance = ?1 LIMIT ?2)",
                PAYLOAD,
            ),
        ] {
            let limit = tx.removable / cost;
            let removed = if limit == 0 { 0 } else { tx.sql.run(delete, (self.instance, int(limit as u64)))? };
            tx.removable -= removed * cost;
            if removed == limit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn remove_execution(self, tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
        let limit = tx.removable;
        let attempts = "DELETE FROM duroxide_attempts WHERE instance = ?1 AND execution = ?2 AND (call, attempt) IN (
                SELECT call, attempt FROM duroxide_attempts WHERE instance = ?1 AND execution = ?2 LIMIT ?3)";
        let removed = tx.sql.run(attempts, (self.instance, self.execution, int(limit as u64)))?;
        tx.removable -= removed;
        let limit = limit - removed;
        if limit == 0 {
            return Ok(false);
        }
        let delete = "DELETE FROM duroxide_events WHERE instance = ?1 AND execution = ?2 AND id IN (
                SELECT id FROM duroxide_events WHERE instance = ?1 AND execution = ?2 ORDER BY id LIMIT ?3)
            RETURNING payload_ref";
        let references = tx
            .sql
            .rows(delete, (self.instance, self.execution, int(limit as u64)), |row| row.get::<_, Option<i64>>(0))?;
        tx.removable -= references.len();
        let is_done = references.len() < limit;
        for payload in references.into_iter().flatten() {
            tx.dereferenced(payload);
        }
        Ok(is_done)
    }
}

/// Removes rows of earlier removals, within the budget of the transaction. Returns true if rows are left.
pub(super) fn proceed(tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
    while tx.removable > 0 {
        let Some(next) = first(&tx.sql)? else { return Ok(false) };
        if !next.remove(tx)? {
            return Ok(true);
        }
        let delete = "DELETE FROM duroxide_removals WHERE instance = ?1 AND execution = ?2";
        tx.sql.run(delete, (next.instance, next.execution))?;
    }
    Ok(true)
}

columns! {
    mod removal { INSTANCE = "instance", EXECUTION = "execution" }
}

fn first(sql: &Sql) -> rusqlite::Result<Option<Removal>> {
    let find = concat!("SELECT ", removal::list!(), " FROM duroxide_removals ORDER BY instance, execution LIMIT 1");
    sql.row(find, [], |row| {
        Ok(Removal { instance: row.get(removal::INSTANCE)?, execution: row.get(removal::EXECUTION)? })
    })
}

#[cfg(test)]
mod tests {
    use crate::clock::Timestamp;
    use crate::id::InstanceId;
    use crate::provider::{MessageRow, NewInstance};
    use crate::sqlite::instances;
    use crate::sqlite::schema;
    use crate::sqlite::sql::OwnSql;
    use crate::sqlite::tx::Tx;

    #[test]
    fn number_is_not_reused_in_one_transaction() {
        let sql = OwnSql::of(schema::in_memory());
        sql.connection().execute_batch("BEGIN").unwrap();
        let mut tx = Tx::new(sql.session(), None);
        tx.removable = 0;
        let create = |tx: &mut Tx<'_>, id: &InstanceId| {
            let new = NewInstance::new(id.clone(), "flow", MessageRow::new("start"));
            instances::create(tx, &new, None, Timestamp::default()).unwrap();
            let find = "SELECT seq FROM duroxide_instances WHERE id = ?1";
            tx.sql.row(find, [id.as_str()], |row| row.get::<_, i64>(0)).unwrap().unwrap()
        };
        let id = InstanceId::new("order").unwrap();
        let removed = create(&mut tx, &id);
        instances::remove(&mut tx, &id, removed).unwrap();
        assert!(tx.left_rows, "rows of the removed instance may be left");
        assert_ne!(create(&mut tx, &id), removed);
    }
}
