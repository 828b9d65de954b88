//! The one thread that writes. It takes whatever has come in meanwhile, writes it in one transaction, makes that durable
//! once, and only then answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::files::Files;
use super::group::{Failure, Job, Undo};
use super::notice::Notice;
use super::notifier::Notifier;
use super::shared::Shared;
use super::sql::Sql;
use super::tx::Tx;
use crate::provider::Signals;

/// The most entries of one transaction: so that the first of them does not wait for ever.
const MAX_ENTRIES: usize = 512;
/// How long the writer must have been idle before it moves the log into the database.
const IDLE: Duration = Duration::from_millis(100);
/// With that many pages in the log (4 MiB), it is moved however busy the writer is. A log that is short is written over again
/// and again, and syncing blocks that the file has already costs half of what it costs to make the file longer.
const MAX_LOG: u32 = 1000;

pub(super) enum Message {
    Job(Box<dyn Job>),
    /// Look whether another process has written, and signal all waits if so.
    Poll,
    Stop,
}

/// Unbounded: who hands in work waits for the answer, so that callers bound it.
pub(super) type Inbox = Sender<Message>;

pub(super) struct Writer {
    sql: Sql,
    shared: Arc<Shared>,
    inbox: Receiver<Message>,
    notifier: Notifier,
    files: Files,
    /// Pages in the log that are not in the database yet, as far as this connection has seen.
    log: Arc<AtomicU32>,
    /// Behind which remembered id old ones are looked for.
    forget: uuid::Uuid,
}

/// Starts the thread.
pub(super) fn start(
    mut sql: Sql,
    shared: Arc<Shared>,
) -> Result<(Inbox, JoinHandle<()>), crate::provider::ProviderError> {
    let failed = |e| super::fault::storage("prepare the connection", e);
    let log = Arc::new(AtomicU32::new(0));
    let pages = log.clone();
    let hook = move |_: &mut rusqlite::hooks::Wal, count: std::ffi::c_int| {
        pages.store(count.unsigned_abs(), Ordering::Relaxed);
        Ok(())
    };
    sql.connection_mut().wal_hook(Some(hook)).map_err(failed)?;
    let notifier = Notifier::new(&sql).map_err(failed)?;
    let (sender, inbox) = channel();
    let files = Files::opened(&shared.path);
    let writer = Writer { sql, shared, inbox, notifier, files, log, forget: uuid::Uuid::nil() };
    let thread = std::thread::Builder::new().name("duroxide-writer".to_owned());
    let handle = thread.spawn(move || writer.run());
    let handle = handle.map_err(|e| crate::provider::ProviderError::retryable("start the writer thread", e))?;
    Ok((sender, handle))
}

impl Writer {
    fn run(mut self) {
        while let Some(message) = self.next() {
            match message {
                Message::Job(job) => {
                    let stop = self.work(job);
                    if stop {
                        break;
                    }
                }
                Message::Poll => self.poll(),
                Message::Stop => break,
            }
        }
        self.checkpoint();
    }

    /// Waits for a message. Uses a pause for moving the log, and then waits without a timeout: idle means idle.
    fn next(&mut self) -> Option<Message> {
        if self.log.load(Ordering::Relaxed) > 0 {
            match self.inbox.recv_timeout(IDLE) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.checkpoint(),
            }
        }
        self.inbox.recv().ok()
    }

    /// Writes a job, and what else is waiting, as one group. Whether it was told to stop meanwhile.
    fn work(&mut self, first: Box<dyn Job>) -> bool {
        let mut entries = first.entries();
        let mut jobs = vec![first];
        let mut stop = false;
        let mut poll = false;
        while entries < MAX_ENTRIES {
            match self.inbox.try_recv() {
                Ok(Message::Job(job)) => {
                    entries += job.entries();
                    jobs.push(job);
                }
                Ok(Message::Poll) => poll = true,
                Ok(Message::Stop) => {
                    stop = true;
                    break;
                }
                Err(_) => break,
            }
        }
        self.write(jobs);
        if poll {
            self.poll();
        }
        if self.log.load(Ordering::Relaxed) > MAX_LOG {
            self.checkpoint();
        }
        stop
    }

    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        match self.transact(&mut jobs) {
            Ok(signals) => {
                self.shared.write_transactions.fetch_add(1, Ordering::Relaxed);
                let notice = (!signals.is_empty()).then(|| Notice::new(signals.work, signals.instances()));
                self.shared.wakeups.tell(signals);
                let unheard = jobs.into_iter().filter_map(|job| (!job.answer(Ok(()))).then_some(())).count();
                if unheard > 0 {
                    // Whoever asked has gone, and hands nothing on: the nodes look for themselves.
                    self.shared.wakeups.work();
                }
                if let Some(notice) = notice {
                    self.notifier.notify(&self.sql, self.shared.port(), &notice);
                }
            }
            Err(error) => {
                let failure: Failure = Arc::new(error);
                for job in jobs {
                    job.answer(Err(failure.clone()));
                }
            }
        }
    }

    /// Writes all jobs in one transaction. First without a way back for single entries, because nearly always none is
    /// needed; if one is, everything again, with savepoints.
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<Signals> {
        match self.attempt(jobs, false) {
            Err(Undo(_)) => {
                self.attempt(jobs, true).map_err(|Undo(error)| error.unwrap_or(rusqlite::Error::InvalidQuery))
            }
            Ok(signals) => Ok(signals),
        }
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>], careful: bool) -> Result<Signals, Undo> {
        let result = self.apply(jobs, careful);
        if result.is_err() && !self.sql.connection().is_autocommit() {
            // What fails here fails again at the next BEGIN, and is answered there.
            let _ = self.sql.run("ROLLBACK", []);
        }
        result
    }

    fn apply(&mut self, jobs: &mut [Box<dyn Job>], careful: bool) -> Result<Signals, Undo> {
        let fatal = |error| Undo(Some(error));
        self.sql.run("BEGIN IMMEDIATE", []).map_err(fatal)?;
        let mut tx = Tx::new(&self.sql, self.shared.latest());
        for job in jobs {
            job.apply(&mut tx, careful)?;
        }
        let mut forget = self.forget;
        tx.finish(&mut forget).map_err(fatal)?;
        let (seen, signals) = (tx.seen, tx.signals);
        self.files.check().map_err(fatal)?;
        self.sql.run("COMMIT", []).map_err(fatal)?;
        self.forget = forget;
        if let Some(time) = seen {
            self.shared.saw(time);
        }
        Ok(signals)
    }

    /// Whether another process has written since the last time: then this one looks for itself.
    fn poll(&mut self) {
        if self.notifier.others_wrote(&self.sql) {
            self.shared.notice(&Notice::from_bytes(&[]));
        }
    }

    /// Moves what it can from the log into the database, without waiting for readers.
    fn checkpoint(&mut self) {
        self.log.store(0, Ordering::Relaxed);
        let moved = self.sql.row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = moved {
            tracing::warn!(%error, "the write-ahead log could not be moved into the database; this is tried again");
        }
    }
}
