//! The reader threads, each with a connection of its own. The blocking threads of the async runtime are not used,
//! because they belong to user code.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::sql::Sql;
use crate::provider::ProviderError;

type Read = Box<dyn FnOnce(&Sql) + Send>;

pub(super) struct Readers {
    /// `None` while it is being dropped. Unbounded: each caller waits for its answer, so the number of callers bounds
    /// it.
    inbox: Option<Sender<Read>>,
    threads: Vec<JoinHandle<Sql>>,
}

impl Readers {
    pub(super) fn start(connections: Vec<Sql>) -> Result<Self, ProviderError> {
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
            _ => Err(ProviderError::retryable(operation, "the reader threads have stopped")),
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

fn read(sql: &Sql, reads: &Mutex<Receiver<Read>>) {
    loop {
        let next = reads.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(read) = next else { return };
        read(sql);
    }
}

fn snapshot<T>(sql: &Sql, read: impl FnOnce(&Sql) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    sql.connection().execute_batch("BEGIN")?;
    let result = read(sql);
    let ended = sql.connection().execute_batch("COMMIT");
    let value = result?;
    ended.map(|()| value)
}
