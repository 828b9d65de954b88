//! The reader threads, each with its own connection. The blocking threads of the async runtime are not used,
//! because they belong to user code.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::sql::{OwnSql, Sql};
use crate::provider::ProviderError;

type Read = Box<dyn FnOnce(&Sql) + Send>;

/// The error of a read that was dropped without an answer.
pub(super) const UNANSWERED: &str = "the read has panicked, or its thread has stopped";

pub(super) struct Readers {
    /// `None` while it is being dropped. Unbounded: each caller waits for its answer, so the number of callers bounds
    /// it.
    inbox: Option<Sender<Read>>,
    threads: Vec<JoinHandle<OwnSql>>,
}

impl Readers {
    pub(super) fn start(connections: Vec<OwnSql>) -> Result<Self, ProviderError> {
        let (inbox, reads) = channel();
        // A std mutex, deliberately held while waiting for the next read.
        let reads = Arc::new(Mutex::new(reads));
        let mut readers = Self { inbox: Some(inbox), threads: Vec::new() };
        for sql in connections {
            let reads = reads.clone();
            let thread = std::thread::Builder::new().name("duroxide-reader".to_owned());
            let thread = thread.spawn(move || {
                read(&sql, &reads);
                sql
            });
            readers.threads.push(thread.map_err(|e| ProviderError::retryable("start a reader thread", e))?);
        }
        Ok(readers)
    }

    /// Runs a read in a transaction: all its statements see the same state.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Sql) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let (answer, answered) = oneshot::channel();
        let job: Read = Box::new(move |sql| {
            let _ = answer.send(snapshot(sql, read));
        });
        let sent = self.inbox.as_ref().is_some_and(|inbox| inbox.send(job).is_ok());
        match answered.await {
            Ok(result) if sent => result.map_err(|error| super::fault::storage(operation, error)),
            _ => Err(ProviderError::retryable(operation, UNANSWERED)),
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.inbox = None;
        // Close the connections one after the other. If two were closed at once, neither would be the last one, and the
        // log would not be removed.
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn read(sql: &OwnSql, reads: &Mutex<Receiver<Read>>) {
    loop {
        let next = reads.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = next else { return };
        unless_it_panics(sql, || read(&sql.session()));
    }
}

/// Runs a read. Its panic ends neither the thread nor later reads; its caller gets an error, since the answer is dropped.
pub(super) fn unless_it_panics(sql: &OwnSql, read: impl FnOnce()) {
    let ended = std::panic::catch_unwind(AssertUnwindSafe(read));
    if ended.is_err() && !sql.connection().is_autocommit() {
        // On an error, the next read fails, and reports it.
        let _ = sql.connection().execute_batch("ROLLBACK");
    }
}

fn snapshot<T>(sql: &Sql, read: impl FnOnce(&Sql) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    sql.connection().execute_batch("BEGIN")?;
    let result = read(sql);
    let ended = sql.connection().execute_batch("COMMIT");
    let value = result?;
    ended.map(|()| value)
}

#[cfg(test)]
mod tests {
    use crate::sqlite::SqliteProvider;

    #[tokio::test]
    async fn panic_of_a_read_fails_only_that_read() {
        let folder = tempfile::tempdir().unwrap();
        let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
        let handle = &provider.handle;
        // More panics than there are threads.
        for _ in 0..8 {
            let error =
                handle.readers.read("fail", |_| -> rusqlite::Result<()> { panic!("a fault") }).await.unwrap_err();
            assert!(error.is_retryable(), "{error}");
        }
        assert_eq!(handle.readers.read("count", |sql| sql.row("SELECT 1", [], |_| Ok(()))).await.unwrap(), Some(()));
        let limit = std::time::Duration::MAX;
        let failed = handle.admin.read("fail", limit, |_, _| -> rusqlite::Result<()> { panic!("a fault") }).await;
        assert!(failed.unwrap_err().is_retryable());
        let read = handle.admin.read("count", limit, |sql, _| sql.row("SELECT 1", [], |_| Ok(()))).await;
        assert_eq!(read.unwrap(), Some(()));
    }
}
