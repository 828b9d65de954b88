//! The threads and the node memberships of one open database.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::Plain;
use super::acquire::{self, Found};
use super::admin_reader::AdminReader;
use super::fault::{FromStorageError, Refusal, is_permanent, open_error, storage};
use super::group::{Failure, Group, Job};
use super::listener::Listener;
use super::lock::NodeLock;
use super::members::{self, Beats, Members};
use super::options::{self, SqliteOptions};
use super::readers::Readers;
use super::reports::Reports;
use super::schema;
use super::shared::Shared;
use super::sql::{OwnSql, Sql};
use super::transaction::Transactions;
use super::tx::Tx;
use super::writer::{self, Inbox, Message};
use crate::id::{Epoch, NodeId};
use crate::provider::{Acquired, Lease, NodeInfo, NodeReport, ProviderError, Renewal, Want};

/// The most instances that are removed in one transaction, so that a removal does not hold the write lock for a long time.
pub(super) const REMOVED_AT_ONCE: usize = 64;

pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) readers: Readers,
    pub(super) admin: AdminReader,
    pub(super) transactions: Transactions,
    writer: Inbox,
    writer_thread: Option<JoinHandle<()>>,
    /// The nodes that joined here, with their locks. Each mutex of this struct is a std mutex: it is held briefly,
    /// never across an await.
    locks: Mutex<HashMap<NodeId, Option<NodeLock>>>,
    beats: Arc<Mutex<Beats>>,
    reports: Reports,
    listener: Mutex<Option<Listener>>,
    /// True if the listener is registered in the database.
    listener_registered: AtomicBool,
}

impl Handle {
    pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Self, ProviderError> {
        options::check(path, options)?;
        let is_new = !path.exists();
        Self::open_file(path, options).map_err(|error| {
            // If the failure may pass, another process may be about to fill the file.
            if is_new && !error.is_retryable() {
                remove_if_empty(path);
            }
            error.about(path.display())
        })
    }

    fn open_file(path: &Path, options: &SqliteOptions) -> Result<Self, ProviderError> {
        let counts = Arc::default();
        let opened = OwnSql::open(path, options.busy_timeout, Arc::clone(&counts));
        let mut sql = opened.map_err(open_error)?;
        let path = path.canonicalize().map_err(|e| ProviderError::permanent("find the database file", e))?;
        let journal_mode = options::journal_mode(&sql).map_err(open_error)?;
        let prepared = options::prepare_writer(&sql, options).and_then(|()| schema::migrate(sql.connection_mut()));
        if let Err(error) = prepared {
            options::restore_journal_mode(&sql, &journal_mode);
            return Err(error);
        }
        #[cfg(feature = "testing")]
        sql.observer.clone_from(&options.observer);
        let shared = Arc::new(Shared::new(path, counts));
        let reader = |_| options::open_reader(&shared.path, options, shared.counts.clone());
        let readers = Readers::start((0..options.readers.max(1)).map(reader).collect::<Result<_, _>>()?)?;
        let admin = AdminReader::new(shared.path.clone(), options.clone(), shared.counts.clone());
        let (writer, writer_thread) = writer::start(sql, shared.clone())?;
        Ok(Self {
            shared,
            readers,
            admin,
            transactions: Transactions::default(),
            writer,
            writer_thread: Some(writer_thread),
            locks: Mutex::default(),
            beats: Arc::default(),
            reports: Reports::default(),
            listener: Mutex::default(),
            listener_registered: AtomicBool::new(false),
        })
    }

    /// Sends entries to the writer. Each entry is atomic on its own.
    pub(super) async fn write<E, T, X>(
        &self,
        operation: &'static str,
        entries: Vec<E>,
        apply: impl Fn(&mut Tx<'_>, &E) -> Result<T, Refusal<X>> + Send + 'static,
    ) -> Result<Vec<Result<T, X>>, ProviderError>
    where
        E: Send + 'static,
        T: Send + 'static,
        X: FromStorageError,
    {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (job, answered) = Group::job(entries, apply);
        let sent = self.writer.send(Message::Job(job)).is_ok();
        match answered.await {
            Ok(answer) if sent => answer.map_err(|failure| failed(operation, failure)),
            _ => Err(ProviderError::retryable(operation, "the writer thread has stopped")),
        }
    }

    /// Like `write`, for entries that fail only if SQLite fails. The first failure is returned as the failure of all.
    pub(super) async fn write_all<E: Send + 'static, T: Send + 'static>(
        &self,
        operation: &'static str,
        entries: Vec<E>,
        apply: impl Fn(&mut Tx<'_>, &E) -> Plain<T> + Send + 'static,
    ) -> Result<Vec<T>, ProviderError> {
        let results = self.write(operation, entries, apply).await?;
        results.into_iter().collect::<Result<_, _>>().map_err(|e| storage(operation, e))
    }

    /// Like `write_all`, for one entry.
    pub(super) async fn write_one<T: Send + 'static>(
        &self,
        operation: &'static str,
        apply: impl Fn(&mut Tx<'_>) -> Plain<T> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let results = self.write_all(operation, vec![()], move |tx, ()| apply(tx)).await?;
        results.into_iter().next().ok_or_else(|| ProviderError::retryable(operation, "the writer did not answer"))
    }

    pub(super) async fn join(&self, node: &NodeInfo) -> Result<Lease, ProviderError> {
        const OPERATION: &str = "join";
        let unjoined = self.begin_join(node.id);
        let members = self.check_members(OPERATION, Lease { node: node.id, epoch: Epoch(0) }).await?;
        let Members { dead, locks, suspects, .. } = members;
        let port = self.start_listener();
        let (info, shared) = (node.clone(), self.shared.clone());
        let join = move |tx: &mut Tx<'_>| Ok(members::join(tx, &info, &shared.path, &dead, port)?);
        let lease = self.write_one(OPERATION, join).await?;
        self.listener_registered.fetch_or(port.is_some(), Ordering::Relaxed);
        self.has_written(&suspects);
        locks.into_iter().for_each(NodeLock::remove);
        unjoined.has_joined();
        self.remove_orphaned_lock_files().await;
        Ok(lease)
    }

    /// Removes the lock files of nodes that are not members: they died before they joined, or the node that took them
    /// over died before it removed the file. The lock must be held while the members are read; otherwise the node could
    /// still join.
    async fn remove_orphaned_lock_files(&self) {
        let orphaned = NodeLock::orphaned(&self.shared.path);
        if orphaned.is_empty() {
            return;
        }
        // If the members cannot be read, the next node that joins tries again.
        let Ok(members) = self.readers.read("list nodes", members::ids).await else { return };
        for (_, lock) in orphaned.into_iter().filter(|(node, _)| !members.contains(node)) {
            lock.remove();
        }
    }

    pub(super) async fn renew(&self, lease: Lease, report: &NodeReport) -> Result<Renewal, ProviderError> {
        const OPERATION: &str = "renew the lease";
        let shown = self.hold_lock(lease.node);
        let Members { held, lease_time, others, suspects, dead, locks } = self.check_members(OPERATION, lease).await?;
        let renewal = Renewal::Held { valid_for: lease_time, others };
        if held && shown && dead.is_empty() && suspects.is_empty() {
            self.write_report(lease, report).await;
            return Ok(renewal);
        }
        let shared = self.shared.clone();
        let renew = move |tx: &mut Tx<'_>| Ok(members::renew(tx, &lease, &shared.path, &dead, !shown)?);
        let held = self.write_one(OPERATION, renew).await?;
        self.has_written(&suspects);
        locks.into_iter().for_each(NodeLock::remove);
        if !held {
            return Ok(Renewal::Lost);
        }
        self.write_report(lease, report).await;
        Ok(renewal)
    }

    /// Writes the report of a node, if it is to be written. A failure does not concern the renewal: the next one tries
    /// again.
    async fn write_report(&self, lease: Lease, report: &NodeReport) {
        let Some(writing) = self.reports.begin(&lease, report) else { return };
        let json = report.to_json();
        let write = move |tx: &mut Tx<'_>| {
            let _until_written = &writing;
            Ok(members::report(tx, &lease, &json)?)
        };
        match self.write_one("write the report of a node", write).await {
            Ok(()) => self.reports.written(&lease, report),
            Err(error) => tracing::debug!(%error, "the report of the node is not written"),
        }
    }

    fn has_written(&self, suspects: &[Epoch]) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).written(suspects, Instant::now());
    }

    pub(super) async fn leave(&self, lease: Lease) -> Result<(), ProviderError> {
        // Take the lock out of the map first, so that it is released even if the caller drops this future. If the write
        // below does not happen, other nodes find the lock free and end the membership.
        let lock = {
            let mut locks = self.locks();
            let lock = locks.remove(&lease.node);
            self.reports.forget(lease.node);
            self.shared.nodes.store(locks.len(), Ordering::Relaxed);
            lock
        };
        self.write_one("leave", move |tx| Ok(members::leave(tx, &lease)?)).await?;
        if let Some(lock) = lock.flatten() {
            lock.remove();
        }
        Ok(())
    }

    /// Answers a request for work.
    pub(super) async fn acquire(&self, lease: Lease, want: Want) -> Result<Acquired, ProviderError> {
        const OPERATION: &str = "acquire work";
        self.shared.observe_time(want.now);
        let (now, want) = (want.now, Arc::new(want));
        let (last, request) = (want.claim, want.clone());
        let Found { mut acquired, mut claims, has_acknowledged } =
            self.readers.read(OPERATION, move |sql| acquire::find_work(sql, &lease, &request)).await?;
        if has_acknowledged {
            self.write_one(OPERATION, move |tx| Ok(acquire::delete_acknowledged(tx, &lease, &want)?)).await?;
        }
        if claims.is_empty() {
            return Ok(acquired);
        }
        if acquired.claim == last {
            match self.write_one(OPERATION, move |tx| Ok(claims.clone().take(tx)?)).await? {
                Some((claim, taken)) => (acquired.claim, claims) = (claim, taken),
                None => {
                    acquired.next_due = Some(now);
                    return Ok(acquired);
                }
            }
        }
        let load = move |sql: &Sql| acquire::load(sql, &claims, &mut acquired).map(|()| acquired);
        self.readers.read(OPERATION, load).await
    }

    /// Sends a message to the writer, if it still runs.
    pub(super) fn tell_writer(&self, message: Message) {
        let _ = self.writer.send(message);
    }

    /// Starts the listener and registers it in the database, if that has not been done yet.
    pub(super) async fn listen(&self) -> Result<(), ProviderError> {
        let Some(port) = self.start_listener() else { return Ok(()) };
        if self.listener_registered.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let registered = self.write_one("register the listener", move |tx| Ok(members::listen(tx, port)?)).await;
        if registered.is_err() {
            self.listener_registered.store(false, Ordering::Relaxed);
        }
        registered
    }

    fn start_listener(&self) -> Option<u16> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_none() {
            match Listener::start(self.shared.clone(), self.writer.clone()) {
                Ok(new) => {
                    self.shared.set_port(new.port());
                    *listener = Some(new);
                }
                Err(error) => {
                    tracing::warn!(%error, "no listener: the writes of other processes are found only by polling")
                }
            }
        }
        listener.as_ref().map(Listener::port)
    }

    async fn check_members(&self, operation: &'static str, lease: Lease) -> Result<Members, ProviderError> {
        let (shared, beats) = (self.shared.clone(), self.beats.clone());
        let check = move |sql: &Sql| {
            let mut beats = beats.lock().unwrap_or_else(PoisonError::into_inner);
            members::check(sql, &shared.path, lease.node, lease.epoch, &mut beats)
        };
        self.readers.read(operation, check).await
    }

    /// Locks the file of a node that joins.
    fn begin_join(&self, node: NodeId) -> Unjoined<'_> {
        // A node that joins again keeps its lock.
        let is_new = match self.locks().entry(node) {
            Entry::Vacant(entry) => entry.insert(None).is_none(),
            Entry::Occupied(_) => false,
        };
        self.hold_lock(node);
        Unjoined { handle: self, node: is_new.then_some(node) }
    }

    /// Locks the file of a node, and creates it again if it was removed. Returns true if the file shows other processes
    /// that the node is alive: the lock is held, and the heartbeat was recorded. False for a node that has left.
    fn hold_lock(&self, node: NodeId) -> bool {
        let mut locks = self.locks();
        let Some(lock) = locks.get_mut(&node) else { return false };
        if !lock.as_ref().is_some_and(NodeLock::is_visible) {
            *lock = NodeLock::hold(&self.shared.path, node);
        }
        let shown = lock.as_ref().is_some_and(NodeLock::beat);
        self.shared.nodes.store(locks.len(), Ordering::Relaxed);
        shown
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<NodeId, Option<NodeLock>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the lock file of a node whose join has failed, or was dropped, unless it was a member before. If it is a
/// member nevertheless, because the answer was lost, other nodes end the membership after the lease time.
struct Unjoined<'a> {
    handle: &'a Handle,
    node: Option<NodeId>,
}

impl Unjoined<'_> {
    fn has_joined(mut self) {
        self.node = None;
    }
}

impl Drop for Unjoined<'_> {
    fn drop(&mut self) {
        let Some(node) = self.node else { return };
        let mut locks = self.handle.locks();
        if let Some(lock) = locks.remove(&node).flatten() {
            lock.remove();
        }
        self.handle.shared.nodes.store(locks.len(), Ordering::Relaxed);
    }
}

/// Removes the file that a failed start has created, unless something was written to it.
fn remove_if_empty(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::debug!(%error, path = %path.display(), "could not remove the empty file of a database");
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(port) = self.shared.port() {
            let unregister: fn(&mut Tx<'_>, &u16) -> Plain<usize> =
                |tx, port| Ok(tx.sql.run("DELETE FROM duroxide_listeners WHERE port = ?1", [port])?);
            let (job, _): (Box<dyn Job>, _) = Group::job(vec![port], unregister);
            let _ = self.writer.send(Message::Job(job));
        }
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.writer.send(Message::Stop);
        if let Some(thread) = self.writer_thread.take() {
            let _ = thread.join();
        }
    }
}

fn failed(operation: &'static str, failure: Failure) -> ProviderError {
    if is_permanent(&failure) {
        ProviderError::permanent(operation, failure)
    } else {
        ProviderError::retryable(operation, failure)
    }
}
