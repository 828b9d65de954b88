//! A connection that counts its statements and caches each prepared statement.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Params, Row, Statement, StatementStatus};

use super::places::Places;

/// The capacity of the cache, larger than the number of different statements.
const STATEMENTS: usize = 256;

/// The work of all connections of a provider.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) statements: AtomicU64,
    /// Instructions of SQLite's virtual machine.
    pub(super) steps: AtomicU64,
}

/// A connection that statements run on.
pub(super) type Sql<'c> = SqlOn<dyn Connected + 'c>;

/// A connection of the provider itself.
pub(super) type OwnSql = SqlOn<Connection>;

pub(super) struct SqlOn<C: ?Sized> {
    counts: Arc<Counts>,
    pub(super) places: Places,
    #[cfg(feature = "testing")]
    pub(super) observer: Option<super::Observer>,
    connection: C,
}

/// A connection of the provider, or, for the time of one write, one of the user.
pub(super) trait Connected {
    fn connection(&self) -> &Connection;
}

impl Connected for Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

impl Connected for &Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

impl<C> SqlOn<C> {
    pub(super) fn new(connection: C, counts: Arc<Counts>) -> Self {
        Self {
            counts,
            places: Places::default(),
            #[cfg(feature = "testing")]
            observer: None,
            connection,
        }
    }
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

    #[cfg(test)]
    pub(super) fn of(connection: Connection) -> Self {
        Self::new(connection, Arc::default())
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl<C: Connected + ?Sized> SqlOn<C> {
    /// Returns the connection, for statements that run only once and for calls that are not statements.
    pub(super) fn connection(&self) -> &Connection {
        self.connection.connection()
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
        let result = self.connection().prepare_cached(sql).and_then(|mut statement| {
            let result = run(&mut statement);
            let steps = statement.reset_status(StatementStatus::VmStep);
            self.counts.steps.fetch_add(steps.max(0).unsigned_abs().into(), Ordering::Relaxed);
            result
        });
        #[cfg(feature = "testing")]
        self.observe(super::Moment::After(sql, result.is_ok()));
        result
    }

    #[cfg(feature = "testing")]
    fn observe(&self, moment: super::Moment<'_>) {
        if let Some(observer) = &self.observer {
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
            assert_eq!(sql.rows(query, [limit], |row| row.get::<_, i64>(0)).unwrap().len(), limit as usize);
        }
        let statement = sql.connection().prepare_cached(query).unwrap();
        assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
    }
}
