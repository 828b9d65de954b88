//! A connection that counts its statements and caches each prepared statement.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, Params, Row, Statement, StatementStatus};

use super::known_rows::KnownRows;
use super::places::Places;

/// The capacity of the cache, larger than the number of different statements.
const STATEMENTS: usize = 256;
/// The most statements that are kept ready for a transaction. They are found by a linear search.
const READY: usize = 48;

/// The work of all connections of a provider.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) statements: AtomicU64,
    /// Instructions of SQLite's virtual machine.
    pub(super) steps: AtomicU64,
}

/// The numbers of rows that a connection has found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) places: Places,
    pub(super) instances: KnownRows,
}

/// A connection of the provider.
pub(super) struct OwnSql {
    connection: Connection,
    counts: Arc<Counts>,
    found: Found,
    #[cfg(feature = "testing")]
    pub(super) observer: Option<super::Observer>,
}

impl OwnSql {
    pub(super) fn open(path: &Path, busy: Duration, counts: Arc<Counts>) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(busy)?;
        // Plans must not depend on bound values. Otherwise a statement with `LIMIT ?` would be prepared again on each
        // run.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self::new(connection, counts))
    }

    fn new(connection: Connection, counts: Arc<Counts>) -> Self {
        Self {
            connection,
            counts,
            found: Found::default(),
            #[cfg(feature = "testing")]
            observer: None,
        }
    }

    #[cfg(test)]
    pub(super) fn of(connection: Connection) -> Self {
        Self::new(connection, Arc::default())
    }

    /// Returns the connection, for statements that run only once and for calls that are not statements.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Returns the connection for a transaction, or for a read.
    pub(super) fn session(&self) -> Sql<'_> {
        Sql {
            #[cfg(feature = "testing")]
            observer: self.observer.as_ref(),
            ..Sql::new(&self.connection, &self.counts, &self.found)
        }
    }
}

/// A connection of the provider or of the user, for the time of a transaction or a read. Its prepared statements stay ready:
/// a repeated statement costs no search in the cache of the connection, whose keys are copied and hashed on each run.
pub(super) struct Sql<'c> {
    connection: &'c Connection,
    counts: &'c Counts,
    pub(super) found: &'c Found,
    #[cfg(feature = "testing")]
    observer: Option<&'c super::Observer>,
    ready: RefCell<Vec<ReadyStatement<'c>>>,
}

struct ReadyStatement<'c> {
    text: Box<str>,
    /// `None` while it runs.
    statement: Option<CachedStatement<'c>>,
}

impl<'c> Sql<'c> {
    pub(super) fn new(connection: &'c Connection, counts: &'c Counts, found: &'c Found) -> Self {
        Self {
            connection,
            counts,
            found,
            #[cfg(feature = "testing")]
            observer: None,
            ready: RefCell::default(),
        }
    }

    /// Returns the connection, for statements that run only once and for calls that are not statements.
    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// Runs a statement. Returns the number of changed rows.
    pub(super) fn run(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.counted(sql, |statement| statement.execute(params))
    }

    /// Returns the first row of the result, if there is one.
    pub(super) fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.counted(sql, |statement| {
            let mut rows = statement.query(params)?;
            rows.next()?.map(read).transpose()
        })
    }

    /// Returns all rows of the result.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.counted(sql, |statement| statement.query_map(params, read)?.collect())
    }

    /// Reads row by row, until `read` returns false.
    pub(super) fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<()> {
        self.counted(sql, |statement| {
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                if !read(row)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Runs and counts a statement. All statements run through this function.
    fn counted<T>(
        &self,
        sql: &str,
        run: impl FnOnce(&mut Statement<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.counts.statements.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "testing")]
        self.observe(super::Moment::Before(sql));
        let result = self.with(sql, |statement| {
            let result = run(statement);
            let steps = statement.reset_status(StatementStatus::VmStep);
            self.counts.steps.fetch_add(steps.max(0).unsigned_abs().into(), Ordering::Relaxed);
            result
        });
        #[cfg(feature = "testing")]
        self.observe(super::Moment::After(sql, result.is_ok()));
        result
    }

    /// Calls `run` with the prepared statement, which is kept ready afterwards. A kept statement keeps its bound values, so
    /// `run` must bind all of them.
    fn with<T>(&self, sql: &str, run: impl FnOnce(&mut Statement<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut ready = self.ready.borrow_mut();
        let found = ready.iter().position(|ready| *ready.text == *sql);
        let mut statement = match found.and_then(|at| ready[at].statement.take()) {
            Some(statement) => statement,
            None => self.connection.prepare_cached(sql)?,
        };
        // `run` may run other statements.
        drop(ready);
        let result = run(&mut statement);
        let mut ready = self.ready.borrow_mut();
        match found {
            Some(at) => ready[at].statement = Some(statement),
            None if ready.len() < READY => ready.push(ReadyStatement { text: sql.into(), statement: Some(statement) }),
            None => {}
        }
        result
    }

    #[cfg(feature = "testing")]
    fn observe(&self, moment: super::Moment<'_>) {
        if let Some(observer) = self.observer {
            observer.call(moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_values_do_not_prepare_a_statement_again() {
        let folder = tempfile::tempdir().unwrap();
        let sql = OwnSql::open(&folder.path().join("state.db"), Duration::ZERO, Arc::default()).unwrap();
        let query = "WITH n (n) AS (VALUES (1), (2), (3)) SELECT n FROM n LIMIT ?1";
        for limit in 1..=3_u32 {
            assert_eq!(sql.session().rows(query, [limit], |row| row.get::<_, i64>(0)).unwrap().len(), limit as usize);
        }
        let statement = sql.connection().prepare_cached(query).unwrap();
        assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
    }
}
