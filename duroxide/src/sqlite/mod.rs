//! The default provider: state in a SQLite file next to the program (feature `sqlite`).
//!
//! A program needs it to set options of the file, or to open a client without a runtime; for all else,
//! [`RuntimeBuilder::sqlite`](crate::RuntimeBuilder::sqlite) suffices. The page [Reliable queue and history]
//! explains backups and durability.
//!
//! [Reliable queue and history]: https://github.com/duroxide/duroxide/blob/main/docs/reliability-queue-and-history.md#the-sqlite-file
//!
//! One thread writes. It combines all waiting requests into one transaction ([`SqliteStats`] counts the transactions).
//! A few threads read. Lists have a separate reader thread, so that a slow list delays no turn.
//! Several processes may use one file. Each node holds a lock of the operating system until its process dies, so the
//! others detect its death at once and claim its work; a process that is stopped is detected by its lease time. A process that has written sends a notice to the others over the loopback
//! interface. Notices may be lost, so a process with a waiting node or client also polls every five seconds.
//!
//! Beside the database `app.db` there are its log `app.db-wal`, its index `app.db-shm`, and one `app.db-node-…` per
//! running node.

mod acquire;
mod activities;
mod admin;
mod admin_reader;
mod attempts;
mod audit;
mod claim;
mod columns;
mod commit;
mod dedup;
mod deliver;
mod departed;
mod ending;
mod fault;
mod files;
mod free;
mod graft;
mod group;
mod groups;
mod handle;
mod instances;
mod known_rows;
mod listener;
mod lock;
mod member_code;
mod members;
mod notice;
mod notifier;
#[cfg(feature = "testing")]
mod observer;
mod options;
mod pauses;
mod payloads;
mod places;
mod previews;
mod readers;
mod records;
mod redact;
mod rejections;
mod removals;
mod remove;
mod reports;
mod rows;
mod schema;
mod search;
mod shared;
mod sql;
mod submit;
mod transaction;
mod turns;
mod tx;
mod unclaimed;
mod wake;
mod within;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures_util::future::BoxFuture;

#[cfg(feature = "testing")]
pub use self::observer::Moment;
pub use self::options::{Durability, SqliteOptions};
pub use self::transaction::Tx;
pub use self::within::Sqlite;

use self::fault::Refusal;
use self::handle::Handle;
#[cfg(feature = "testing")]
use self::observer::Observer;
use crate::clock::Timestamp;
use crate::id::{EventId, ExecutionId, InstanceId};
use crate::provider::{
    Acquired, Admin, Commit, CommitError, Committed, HistoryPage, InstanceRecord, Lease, NodeInfo, NodeReport,
    Provider, ProviderError, Renewal, Submission, SubmitError, Submitted, Transactional, Wakeups, Want,
};

/// A provider that keeps its state in a SQLite file. Cheap to clone; its threads end when the last clone is dropped.
#[derive(Clone)]
pub struct SqliteProvider {
    handle: Arc<Handle>,
}

/// The counters of a [`SqliteProvider`] since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteStats {
    /// Committed transactions.
    pub write_transactions: u64,
    /// Statements of any kind, including those that begin and end transactions.
    pub statements: u64,
    /// Instructions of SQLite's virtual machine: they grow with the rows that the statements visit.
    pub steps: u64,
}

impl SqliteProvider {
    /// Opens a database. Creates it if it does not exist, and migrates an older schema.
    ///
    /// # Errors
    /// A [`ProviderError`] if the file cannot be opened, is not a database, or has the schema of a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ProviderError> {
        Self::open_with(path, SqliteOptions::default())
    }

    /// Like [`SqliteProvider::open`], with options.
    ///
    /// # Errors
    /// As [`SqliteProvider::open`].
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, ProviderError> {
        Ok(Self { handle: Arc::new(Handle::open(path.as_ref(), &options)?) })
    }

    /// Returns the counters since the provider was opened.
    pub fn stats(&self) -> SqliteStats {
        let shared = &self.handle.shared;
        SqliteStats {
            write_transactions: shared.write_transactions.load(Ordering::Relaxed),
            statements: shared.counts.statements.load(Ordering::Relaxed),
            steps: shared.counts.steps.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for SqliteProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteProvider").field("path", &self.handle.shared.path).finish_non_exhaustive()
    }
}

impl Provider for SqliteProvider {
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        Box::pin(self.handle.join(node))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        Box::pin(self.handle.renew(*lease, report))
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(self.handle.leave(*lease))
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        Box::pin(self.handle.acquire(*lease, want))
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        let lease = *lease;
        Box::pin(self.handle.write("commit", entries, move |tx, entry| commit::commit(tx, &lease, entry)))
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        Box::pin(self.handle.write("submit", entries, submit::submit))
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        let execution = execution.clone();
        Box::pin(self.handle.readers.read("read a history", move |sql| records::history(sql, &execution, after)))
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        let (instance, now) = (instance.clone(), self.now());
        Box::pin(self.handle.readers.read("read an instance", move |sql| records::instance(sql, &instance, now)))
    }

    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        Box::pin(async move {
            // From now on, another process that finishes the instance sends a notice that names it.
            self.handle.listen().await?;
            self.instance(instance).await
        })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        Some(self)
    }

    fn wakeups(&self) -> &Wakeups {
        &self.handle.shared.wakeups
    }
}

impl SqliteProvider {
    /// Returns the latest time named by a call; before the first one, the time of the operating system.
    fn now(&self) -> Timestamp {
        self.handle.shared.latest_time().unwrap_or_else(|| SystemTime::now().into())
    }
}

/// The result of an entry that fails only if SQLite fails.
type Plain<T> = Result<T, Refusal<rusqlite::Error>>;
