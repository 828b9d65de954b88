//! The writer thread. It takes all waiting requests, writes them in one transaction, makes that durable once, and only
//! then answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::dedup::Expiry;
use super::files::Files;
use super::group::{Failure, Job, Undo};
use super::notice::Notice;
use super::notifier::Notifier;
use super::removals;
use super::shared::Shared;
use super::sql::OwnSql;
use super::tx::Tx;
use crate::provider::Signals;

/// The most entries in one transaction, so that the first of them does not wait too long.
const MAX_ENTRIES: usize = 512;
/// The idle time after which the writer moves the log into the database (a checkpoint).
const IDLE: Duration = Duration::from_millis(100);
/// The number of pages in the log (4 MiB) above which it is moved even if the writer is busy. A short log is
/// overwritten in place, and a sync of existing blocks costs half as much as a sync of a growing file.
const MAX_LOG: u32 = 1000;
/// How long, and how often, to poll for the commit of a user transaction. The slow poll finds a later one.
const EXPECTED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

pub(super) enum Message {
    Job(Box<dyn Job>),
    /// Check if another connection has written, and signal all waits if so.
    Poll,
    /// A transaction of the user will commit soon: check often for a while.
    Expect,
    /// A transaction of the user was committed.
    Committed,
    Stop,
}

/// Unbounded: each caller waits for its answer, so the number of callers bounds it.
pub(super) type Inbox = Sender<Message>;

pub(super) struct Writer {
    sql: OwnSql,
    shared: Arc<Shared>,
    inbox: Receiver<Message>,
    notifier: Notifier,
    files: Files,
    /// The number of pages in the log that are not yet in the database, as seen by this connection.
    log: Arc<AtomicU32>,
    expiry: Expiry,
    /// Transactions of the user that are expected to commit.
    expects: Option<Expected>,
    /// True if rows may be left of [removals](super::removals).
    has_removals: bool,
}

/// The times of the next and of the last look for commits of the user.
#[derive(Clone, Copy)]
struct Expected {
    next: Instant,
    until: Instant,
}

/// Starts the writer thread.
pub(super) fn start(
    mut sql: OwnSql,
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
    let notifier = Notifier::new(&sql.session()).map_err(failed)?;
    let (sender, inbox) = channel();
    let (files, expiry) = (Files::opened(&shared.path), Expiry::new(Instant::now()));
    let writer = Writer { sql, shared, inbox, notifier, files, log, expiry, expects: None, has_removals: true };
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
                Message::Stop => break,
                other => self.react(&other),
            }
        }
        self.checkpoint();
    }

    /// Waits for a message. Moves the log during a pause, and then waits without a timeout, so that an idle writer
    /// never wakes, unless a commit of the user is expected.
    fn next(&mut self) -> Option<Message> {
        self.look();
        while self.has_removals {
            match self.inbox.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.proceed_with_removals(),
            }
        }
        if self.log.load(Ordering::Relaxed) > 0 {
            match self.inbox.recv_timeout(IDLE) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.checkpoint(),
            }
        }
        self.receive()
    }

    /// Writes a job and all other waiting jobs as one group. Returns true if a stop message has arrived.
    fn work(&mut self, first: Box<dyn Job>) -> bool {
        let mut entries = first.entries();
        let mut jobs = vec![first];
        let mut stop = false;
        let mut others = Vec::new();
        while entries < MAX_ENTRIES {
            match self.inbox.try_recv() {
                Ok(Message::Job(job)) => {
                    entries += job.entries();
                    jobs.push(job);
                }
                Ok(Message::Stop) => {
                    stop = true;
                    break;
                }
                Ok(other) => others.push(other),
                Err(_) => break,
            }
        }
        self.write(jobs);
        others.iter().for_each(|message| self.react(message));
        if self.log.load(Ordering::Relaxed) > MAX_LOG {
            self.checkpoint();
        }
        stop
    }

    /// Removes a part of the rows that removals have left. If it fails, the next write tries again.
    fn proceed_with_removals(&mut self) {
        self.has_removals = false;
        let left = self.sql.session().row("SELECT EXISTS (SELECT 1 FROM duroxide_removals)", [], |row| row.get(0));
        match left {
            Ok(Some(true)) => {
                self.has_removals = true;
                if let Err(Undo(error)) = self.attempt(&mut [], false) {
                    tracing::warn!(?error, "could not remove rows of removed instances; a later write will try again");
                    self.has_removals = false;
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "could not look for rows of removed instances; a later removal will try again");
            }
        }
    }

    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        match self.transact(&mut jobs) {
            Ok(signals) => {
                self.shared.write_transactions.fetch_add(1, Ordering::Relaxed);
                let notice = (!signals.is_empty()).then(|| Notice::new(signals.work, signals.instances()));
                self.shared.wakeups.tell(signals);
                let unanswered = jobs.into_iter().filter_map(|job| (!job.answer(Ok(()))).then_some(())).count();
                if unanswered > 0 {
                    // The caller no longer waits and cannot forward its messages. Signal the nodes to request work.
                    self.shared.wakeups.work();
                }
                if let Some(notice) = notice {
                    self.notifier.notify(&self.sql.session(), self.shared.port(), &notice);
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

    /// Writes all jobs in one transaction: first without savepoints, because almost no entry must be undone; if one
    /// must be, again with a savepoint for each entry.
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
            // A failure here fails the next BEGIN too, and is reported there.
            let _ = self.sql.session().run("ROLLBACK", []);
        }
        result
    }

    fn apply(&mut self, jobs: &mut [Box<dyn Job>], careful: bool) -> Result<Signals, Undo> {
        let fatal = |error| Undo(Some(error));
        let mut tx = Tx::new(self.sql.session(), self.shared.latest_time());
        tx.sql.run("BEGIN IMMEDIATE", []).map_err(fatal)?;
        for job in jobs {
            job.apply(&mut tx, careful)?;
        }
        let has_removals =
            if self.has_removals || tx.left_rows { removals::proceed(&mut tx).map_err(fatal)? } else { false };
        let mut expiry = self.expiry;
        tx.finish(&mut expiry).map_err(fatal)?;
        self.files.check().map_err(fatal)?;
        tx.sql.run("COMMIT", []).map_err(fatal)?;
        let Tx { seen, signals, .. } = tx;
        (self.expiry, self.has_removals) = (expiry, has_removals);
        if let Some(time) = seen {
            self.shared.observe_time(time);
        }
        Ok(signals)
    }

    /// Handles a message that is not a job.
    fn react(&mut self, message: &Message) {
        match message {
            Message::Poll => drop(self.poll()),
            Message::Expect => {
                let now = Instant::now();
                let next = self.expects.map_or(now + LOOK, |expected| expected.next);
                self.expects = Some(Expected { next, until: now + EXPECTED });
            }
            Message::Committed => self.users_transaction_was_committed(),
            Message::Job(_) | Message::Stop => {}
        }
    }

    /// Signals all waits of this process if another connection has written since the last call, and returns true.
    fn poll(&mut self) -> bool {
        let wrote = self.notifier.others_wrote(&self.sql.session());
        if wrote {
            self.shared.notice(&Notice::from_bytes(&[]));
        }
        wrote
    }

    /// Signals all waits of this and of other processes.
    fn users_transaction_was_committed(&mut self) {
        let notice = Notice::from_bytes(&[]);
        self.shared.notice(&notice);
        self.notifier.notify(&self.sql.session(), self.shared.port(), &notice);
    }

    /// Looks for a commit of the user, if it is time to.
    fn look(&mut self) {
        let Some(expected) = &mut self.expects else { return };
        let now = Instant::now();
        if now < expected.next {
            return;
        }
        expected.next = now + LOOK;
        if now > expected.until {
            self.expects = None;
        }
        if self.poll() {
            self.notifier.notify(&self.sql.session(), self.shared.port(), &Notice::from_bytes(&[]));
        }
    }

    /// Waits for a message, or until it is time to look for a commit of the user.
    fn receive(&mut self) -> Option<Message> {
        while let Some(Expected { next, .. }) = self.expects {
            match self.inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.look(),
            }
        }
        self.inbox.recv().ok()
    }

    /// Moves as many pages as possible from the log into the database, without waiting for readers.
    fn checkpoint(&mut self) {
        self.log.store(0, Ordering::Relaxed);
        let moved = self.sql.session().row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = moved {
            tracing::warn!(%error, "could not move the write-ahead log into the database; the writer will try again");
        }
    }
}
