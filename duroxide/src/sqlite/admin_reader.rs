//! The thread that reads for the admin interface. It has its own connection, opened with the first read, so that a
//! slow list delays only other lists: turns and clients read through [`Readers`](super::readers::Readers).
//!
//! Each statement has its own snapshot. A snapshot for a whole search would prevent checkpoints of the log for as long
//! as the search runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::fault::storage;
use super::options::{self, SqliteOptions};
use super::readers::{UNANSWERED, unless_it_panics};
use super::sql::{Counts, OwnSql, Sql};
use crate::provider::ProviderError;

/// The shortest time limit of a running read. A read that waited past its time limit, or has none, still makes some
/// progress.
const LEAST: Duration = Duration::from_millis(100);
/// Steps of SQLite's virtual machine between two checks of the deadline: some ten microseconds.
const STEPS: i32 = 1000;

type Read = Box<dyn FnOnce(Result<&Sql, ProviderError>) + Send>;

pub(super) struct AdminReader {
    path: PathBuf,
    options: SqliteOptions,
    counts: Arc<Counts>,
    interrupt: Arc<Interrupt>,
    /// `None` before the first read. A std mutex, which is also held while the thread is started.
    running: Mutex<Option<Running>>,
}

struct Running {
    /// Unbounded: each caller waits for its answer, so the number of callers bounds it.
    inbox: Sender<Read>,
    thread: JoinHandle<()>,
}

/// The time at which a read must end. A search checks it between two windows; a statement that runs longer is
/// interrupted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(time_limit: Duration) -> Self {
        let now = Instant::now();
        // On overflow, use thirty years, which is as good as no limit.
        Self(now.checked_add(time_limit).unwrap_or_else(|| now + Duration::from_secs(1_000_000_000)))
    }

    pub(super) fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// The time at which SQLite interrupts the running statement.
struct Interrupt {
    origin: Instant,
    /// In microseconds after the origin.
    at: AtomicU64,
    stopped: AtomicBool,
}

impl Interrupt {
    fn set(&self, at: Instant) {
        let micros = at.saturating_duration_since(self.origin).as_micros();
        self.at.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        let elapsed = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stopped.load(Ordering::Relaxed) || elapsed >= self.at.load(Ordering::Relaxed)
    }
}

impl AdminReader {
    pub(super) fn new(path: PathBuf, options: SqliteOptions, counts: Arc<Counts>) -> Self {
        let interrupt =
            Interrupt { origin: Instant::now(), at: AtomicU64::new(u64::MAX), stopped: AtomicBool::new(false) };
        Self { path, options, counts, interrupt: Arc::new(interrupt), running: Mutex::default() }
    }

    /// Runs a read. The time limit includes the wait for earlier reads; a read is skipped if its caller no longer waits.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        time_limit: Duration,
        read: impl FnOnce(&Sql, Deadline) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let deadline = Deadline::after(time_limit);
        let interrupt = Arc::clone(&self.interrupt);
        let (answer, answered) = oneshot::channel();
        let job: Read = Box::new(move |sql| {
            if answer.is_closed() {
                return;
            }
            interrupt.set(deadline.0.max(Instant::now() + LEAST));
            let result = sql.and_then(|sql| read(sql, deadline).map_err(|error| storage(operation, error)));
            let _ = answer.send(result);
        });
        self.send(job)?;
        answered.await.map_err(|_| ProviderError::retryable(operation, UNANSWERED))?
    }

    fn send(&self, job: Read) -> Result<(), ProviderError> {
        const OPERATION: &str = "start the admin reader thread";
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match &mut *running {
            Some(running) => running,
            none => none.insert(self.start().map_err(|error| ProviderError::retryable(OPERATION, error))?),
        };
        running.inbox.send(job).map_err(|_| ProviderError::retryable(OPERATION, "the thread has stopped"))
    }

    fn start(&self) -> std::io::Result<Running> {
        let (inbox, reads) = channel();
        let (path, options, counts) = (self.path.clone(), self.options.clone(), Arc::clone(&self.counts));
        let interrupt = Arc::clone(&self.interrupt);
        let open = move || {
            let mut sql = options::open_reader(&path, &options, Arc::clone(&counts))?;
            let interrupt = Arc::clone(&interrupt);
            let handler = Some(move || interrupt.is_due());
            let set = sql.connection_mut().progress_handler(STEPS, handler);
            set.map_err(|error| storage("open the database", error))?;
            Ok(sql)
        };
        let thread = std::thread::Builder::new().name("duroxide-admin".to_owned());
        Ok(Running { inbox, thread: thread.spawn(move || run(&reads, open))? })
    }
}

impl Drop for AdminReader {
    fn drop(&mut self) {
        self.interrupt.stopped.store(true, Ordering::Relaxed);
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { inbox, thread }) = running {
            drop(inbox);
            // Close this connection before the others: see the `Drop` of `Readers`.
            let _ = thread.join();
        }
    }
}

/// Runs reads until the last sender is dropped. If the database cannot be opened, the next read tries again.
fn run(reads: &Receiver<Read>, open: impl Fn() -> Result<OwnSql, ProviderError>) {
    let mut opened = None;
    for read in reads {
        if opened.is_none() {
            match open() {
                Ok(sql) => opened = Some(sql),
                Err(error) => {
                    read(Err(error));
                    continue;
                }
            }
        }
        if let Some(sql) = &opened {
            unless_it_panics(sql, || read(Ok(&sql.session())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InstanceId;
    use crate::provider::{Admin, Filter, Page, Provider};
    use crate::sqlite::SqliteProvider;

    #[tokio::test]
    async fn turns_and_clients_do_not_wait_for_lists() {
        let folder = tempfile::tempdir().unwrap();
        let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
        let (begun, has_begun) = oneshot::channel();
        let (go, goes) = channel::<()>();
        let slow = provider.handle.admin.read("wait", Duration::ZERO, move |_, _| {
            let _ = begun.send(());
            let _ = goes.recv();
            Ok(())
        });
        let (filter, page) = (Filter::default(), Page::new(1));
        let is_blocked = std::cell::Cell::new(true);
        let list = async |_| {
            let page = provider.list(&filter, &page).await.unwrap();
            assert!(!is_blocked.get(), "lists are read one after another, by the admin reader thread alone");
            assert!(page.instances.is_empty());
        };
        // More lists than there are reader threads for turns.
        let lists = futures_util::future::join_all((0..8).map(list));
        let instance = InstanceId::new("none").unwrap();
        let reads = async {
            has_begun.await.unwrap();
            assert!(provider.instance(&instance).await.unwrap().is_none());
            // Poll the lists, which fail here if they were answered.
            tokio::task::yield_now().await;
            is_blocked.set(false);
            go.send(()).unwrap();
        };
        let (slow, _, ()) = tokio::join!(slow, lists, reads);
        slow.unwrap();
    }

    #[tokio::test]
    async fn statement_is_interrupted_at_its_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
        let endless = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n";
        let count = |sql: &Sql, _| sql.row(endless, [], |row| row.get::<_, i64>(0));
        let error = provider.handle.admin.read("count", Duration::ZERO, count).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("interrupted"), "{error}");
        let next =
            provider.handle.admin.read("count", Duration::ZERO, |sql, _| sql.row("SELECT 1", [], |_| Ok(()))).await;
        assert_eq!(next.unwrap(), Some(()), "the next read has its own deadline");
    }

    #[tokio::test]
    async fn dropped_provider_does_not_wait_for_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
        let (begun, has_begun) = channel();
        let endless = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n";
        let count = move |sql: &Sql, _| {
            let _ = begun.send(());
            sql.row(endless, [], |row| row.get::<_, i64>(0))
        };
        let mut read = Box::pin(provider.handle.admin.read("count", Duration::MAX, count));
        assert!(futures_util::FutureExt::now_or_never(read.as_mut()).is_none());
        has_begun.recv().unwrap();
        // The caller no longer waits, but the statement still runs.
        drop(read);
        drop(provider);
    }
}
