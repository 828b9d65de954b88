//! The options of a database, and the setup of its connections.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{ErrorCode, ffi};

use super::fault::open_error;
use super::sql::OwnSql;
use crate::provider::ProviderError;

/// The failures that an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// The end of the process, of the operating system, and a loss of power: the disk is flushed before a write is
    /// acknowledged.
    #[default]
    Full,
    /// The end of the process. If the machine stops, the last writes may be lost; the database stays consistent.
    Relaxed,
}

/// The options of a [`SqliteProvider`](super::SqliteProvider).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// The failures that an acknowledged write survives. Default: [`Durability::Full`].
    pub durability: Durability,
    /// The time to wait for another process that holds the write lock, before an operation fails with a retryable
    /// error. Default: 5 s.
    pub busy_timeout: Duration,
    /// The number of reader threads. Default: 2.
    pub readers: usize,
    /// The largest size of the database file in bytes, rounded down to pages. At least 256 KiB. Default: no limit.
    pub max_bytes: Option<u64>,
    #[cfg(feature = "testing")]
    pub(super) observer: Option<super::Observer>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            busy_timeout: Duration::from_secs(5),
            readers: 2,
            max_bytes: None,
            #[cfg(feature = "testing")]
            observer: None,
        }
    }
}

impl SqliteOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the durability of acknowledged writes.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the time to wait for another process that holds the write lock.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Sets the number of reader threads. Zero counts as one.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// Sets the largest size of the database file. A write beyond it fails as on a full disk.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets a function that is called at every moment of the writer thread, for tests of crashes (feature `testing`).
    /// The thread waits until the function returns; the function may end the process.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(super::Moment<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(super::Observer::new(observer));
        self
    }
}

/// The size to which the log is cut once it starts again, after a reader stopped the checkpoint, in bytes. Well
/// above the size of the log under load, since a log that is not cut is overwritten in place.
const MAX_LOG_FILE: i64 = 16 << 20;

/// The lowest limit of the size of the file, in bytes: the tables without rows need about half of it.
const MIN_MAX_BYTES: u64 = 256 << 10;

/// Refuses a path that names no file, and a limit that leaves no room for the tables.
pub(super) fn check(path: &Path, options: &SqliteOptions) -> Result<(), ProviderError> {
    check_path(path)?;
    match options.max_bytes.filter(|bytes| *bytes < MIN_MAX_BYTES) {
        None => Ok(()),
        Some(bytes) => {
            let reason = format!("`SqliteOptions::max_bytes` is {bytes}: it must be at least {MIN_MAX_BYTES}");
            Err(ProviderError::permanent("open the database", reason).with_code(crate::error::ErrorCode::NotConfigured))
        }
    }
}

fn check_path(path: &Path) -> Result<(), ProviderError> {
    let text = path.to_string_lossy();
    let problem = if text.is_empty() || text == ":memory:" {
        "names no file; for a store that ends with the process, use `.in_memory()`"
    } else if text.starts_with("file:") {
        "is a URI; give a plain path"
    } else {
        return Ok(());
    };
    Err(ProviderError::permanent("open the database", format!("{text:?} {problem}")))
}

/// Sets up the connection of the writer.
pub(super) fn prepare_writer(sql: &OwnSql, options: &SqliteOptions) -> Result<(), ProviderError> {
    let failed = open_error;
    // SQLite silently opens a file that it cannot write as read-only.
    if sql.connection().is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        let error = ffi::Error::new(ffi::SQLITE_READONLY);
        return Err(failed(rusqlite::Error::SqliteFailure(error, Some("the file is read-only".to_owned()))));
    }
    let mode = write_ahead(sql, options.busy_timeout).map_err(failed)?;
    if mode != "wal" {
        let reason = format!("its file system allows only the journal mode {mode:?}; WAL is required");
        return Err(ProviderError::permanent("open the database", reason));
    }
    let (name, level) = match options.durability {
        Durability::Full => ("FULL", 2),
        Durability::Relaxed => ("NORMAL", 1),
    };
    let connection = sql.connection();
    connection.pragma_update(None, "synchronous", name).map_err(failed)?;
    // Verify the setting, because SQLite silently ignores unknown values.
    let set: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).map_err(failed)?;
    if set != level {
        let reason = format!("the sync level {name} was requested, but SQLite uses {set}");
        return Err(ProviderError::permanent("open the database", reason));
    }
    let settings =
        [("wal_autocheckpoint", 0), ("journal_size_limit", MAX_LOG_FILE), ("cache_size", -4096), ("temp_store", 2)];
    for (pragma, value) in settings {
        connection.pragma_update(None, pragma, value).map_err(failed)?;
    }
    secure_delete(connection, false).map_err(failed)?;
    if let Some(bytes) = options.max_bytes {
        let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
        let pages = i64::try_from(bytes / u64::from(page.max(1))).unwrap_or(i64::MAX).max(1);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(failed)?;
    }
    Ok(())
}

/// Makes SQLite zero deleted content: each freed part of a page that is written anyway, and with `thorough` also whole pages,
/// which costs writes.
pub(super) fn secure_delete(connection: &rusqlite::Connection, thorough: bool) -> rusqlite::Result<()> {
    let level = if thorough { "on" } else { "fast" };
    connection.pragma_update_and_check(None, "secure_delete", level, |_| Ok(()))
}

/// Returns the journal mode of the database.
pub(super) fn journal_mode(sql: &OwnSql) -> rusqlite::Result<String> {
    sql.connection().pragma_query_value(None, "journal_mode", |row| row.get(0))
}

/// Sets the journal mode that a database had before a start that has failed: it may belong to another program.
pub(super) fn restore_journal_mode(sql: &OwnSql, mode: &str) {
    if journal_mode(sql).is_ok_and(|now| now != mode)
        && let Err(error) = sql.connection().pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))
    {
        tracing::debug!(%error, "could not restore the journal mode of the database");
    }
}

/// Switches to the write-ahead log. If several processes do so on a new file, SQLite returns "busy" at once instead of
/// waiting, so this function retries.
fn write_ahead(sql: &OwnSql, timeout: Duration) -> rusqlite::Result<String> {
    let begun = Instant::now();
    loop {
        let mode = sql.connection().pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        match mode {
            Err(error) if is_busy(&error) && begun.elapsed() < timeout => std::thread::sleep(Duration::from_millis(2)),
            mode => return mode,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Opens and sets up the connection of a reader.
pub(super) fn open_reader(
    path: &Path,
    options: &SqliteOptions,
    counts: std::sync::Arc<super::sql::Counts>,
) -> Result<OwnSql, ProviderError> {
    let failed = open_error;
    let sql = OwnSql::open(path, options.busy_timeout, counts).map_err(failed)?;
    for (pragma, value) in [("query_only", 1), ("cache_size", -2048), ("temp_store", 2)] {
        sql.connection().pragma_update(None, pragma, value).map_err(failed)?;
    }
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn sync_level(options: &SqliteOptions) -> i64 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let sql = OwnSql::open(&path, options.busy_timeout, Arc::default()).unwrap();
        prepare_writer(&sql, options).unwrap();
        sql.connection().pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    }

    #[test]
    fn durability_sets_the_sync_level() {
        assert_eq!(sync_level(&SqliteOptions::new()), 2, "FULL");
        assert_eq!(sync_level(&SqliteOptions::new().durability(Durability::Relaxed)), 1, "NORMAL");
    }
}
