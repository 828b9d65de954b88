//! The threads and the memberships of one opened database.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Plain;
use super::acquire::{self, Found};
use super::admin_reader::AdminReader;
use super::fault::{Failed, Refusal, is_permanent, storage, unopened};
use super::group::{Failure, Group, Job};
use super::listener::Listener;
use super::lock::NodeLock;
use super::members::{self, Beats, Members};
use super::options::{self, SqliteOptions};
use super::readers::Readers;
use super::schema;
use super::shared::Shared;
use super::sql::Sql;
use super::tx::Tx;
use super::writer::{self, Inbox, Message};
use crate::id::{Epoch, NodeId};
use crate::provider::{Acquired, Lease, NodeInfo, ProviderError, Renewal, Want};

/// How many instances are removed in one transaction: others want to write, too.
pub(super) const REMOVED_AT_ONCE: usize = 64;

pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) readers: Readers,
    pub(super) admin: AdminReader,
    writer: Inbox,
    writer_thread: Option<JoinHandle<()>>,
    /// The nodes that joined here, with their locks. All of these are std mutexes, held for a moment, never across an await.
    locks: Mutex<HashMap<NodeId, Option<NodeLock>>>,
    beats: Arc<Mutex<Beats>>,
    listener: Mutex<Option<Listener>>,
    /// True if the database names the listener.
    listener_registered: AtomicBool,
}

impl Handle {
    pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Self, ProviderError> {
        let statements = Arc::default();
        let opened = Sql::open(path, options.busy_timeout, Arc::clone(&statements));
        let mut sql = opened.map_err(|e| unopened(path, e))?;
        let path = path.canonicalize().map_err(|e| ProviderError::permanent("find the database file", e))?;
        options::prepare_writer(&sql, &path, options)?;
        schema::migrate(sql.connection_mut())?;
        #[cfg(feature = "testing")]
        sql.observer.clone_from(&options.observer);
        let shared = Arc::new(Shared::new(path, statements));
        let reader = |_| options::open_reader(&shared.path, options, shared.statements.clone());
        let readers = Readers::start((0..options.readers.max(1)).map(reader).collect::<Result<_, _>>()?)?;
        let admin = AdminReader::new(shared.path.clone(), options.clone(), shared.statements.clone());
        let (writer, writer_thread) = writer::start(sql, shared.clone())?;
        Ok(Self {
            shared,
            readers,
            admin,
            writer,
            writer_thread: Some(writer_thread),
            locks: Mutex::default(),
            beats: Arc::default(),
            listener: Mutex::default(),
            listener_registered: AtomicBool::new(false),
        })
    }

    /// Hands entries to the writer, each atomic by itself.
    pub(super) async fn write<E, T, X>(
        &self,
        operation: &'static str,
        entries: Vec<E>,
        apply: impl Fn(&mut Tx<'_>, &E) -> Result<T, Refusal<X>> + Send + 'static,
    ) -> Result<Vec<Result<T, X>>, ProviderError>
    where
        E: Send + 'static,
        T: Send + 'static,
        X: Failed,
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

    /// The same for entries whose only failure is that of SQLite: the first one that fails, fails all.
    pub(super) async fn write_all<E: Send + 'static, T: Send + 'static>(
        &self,
        operation: &'static str,
        entries: Vec<E>,
        apply: impl Fn(&mut Tx<'_>, &E) -> Plain<T> + Send + 'static,
    ) -> Result<Vec<T>, ProviderError> {
        let results = self.write(operation, entries, apply).await?;
        results.into_iter().collect::<Result<_, _>>().map_err(|e| storage(operation, e))
    }

    /// The same for one entry.
    pub(super) async fn write_one<T: Send + 'static>(
        &self,
        operation: &'static str,
        apply: impl Fn(&mut Tx<'_>) -> Plain<T> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let results = self.write_all(operation, vec![()], move |tx, ()| apply(tx)).await?;
        results.into_iter().next().ok_or_else(|| ProviderError::retryable(operation, "the writer gave no answer"))
    }

    pub(super) async fn join(&self, node: &NodeInfo) -> Result<Lease, ProviderError> {
        const OPERATION: &str = "join";
        self.hold_lock(node.id);
        let mut members = self.look(OPERATION, Lease { node: node.id, epoch: Epoch(0) }).await?;
        let dead = epochs(&members);
        let port = self.start_listener();
        let info = node.clone();
        let lease = self.write_one(OPERATION, move |tx| Ok(members::join(tx, &info, &dead, port)?)).await?;
        self.listener_registered.fetch_or(port.is_some(), Ordering::Relaxed);
        bury(&mut members);
        self.bury_strangers().await;
        Ok(lease)
    }

    /// Removes the files of nodes that died before they were members, or whose file was forgotten by one that died while it
    /// took them over. Only whoever holds a file that nobody else holds can tell that its node will never be a member.
    async fn bury_strangers(&self) {
        let abandoned = NodeLock::abandoned(&self.shared.path);
        if abandoned.is_empty() {
            return;
        }
        // If they cannot be read, the next who joins tries again.
        let Ok(members) = self.readers.read("list nodes", members::ids).await else { return };
        for (_, lock) in abandoned.into_iter().filter(|(node, _)| !members.contains(node)) {
            lock.remove();
        }
    }

    pub(super) async fn renew(&self, lease: Lease) -> Result<Renewal, ProviderError> {
        const OPERATION: &str = "renew the lease";
        let locked = self.hold_lock(lease.node);
        let mut members = self.look(OPERATION, lease).await?;
        // The lock shows that the node lives, for as long as it does.
        let valid_for = if locked { Duration::MAX } else { members.lease_time };
        if members.held && locked && members.dead.is_empty() {
            return Ok(Renewal::Held { valid_for });
        }
        let dead = epochs(&members);
        let held = self.write_one(OPERATION, move |tx| Ok(members::renew(tx, &lease, &dead, !locked)?)).await?;
        bury(&mut members);
        Ok(if held { Renewal::Held { valid_for } } else { Renewal::Lost })
    }

    pub(super) async fn leave(&self, lease: Lease) -> Result<(), ProviderError> {
        // Let go of in any case, also when this is given up: what is not written here, others write when they see it free.
        let lock = {
            let mut locks = self.locks();
            let lock = locks.remove(&lease.node);
            self.shared.nodes.store(locks.len(), Ordering::Relaxed);
            lock
        };
        self.write_one("leave", move |tx| Ok(members::free(tx, lease.epoch, false)?)).await?;
        if let Some(lock) = lock.flatten() {
            lock.remove();
        }
        Ok(())
    }

    /// Answers a request for work.
    pub(super) async fn acquire(&self, lease: Lease, want: Want) -> Result<Acquired, ProviderError> {
        const OPERATION: &str = "acquire work";
        self.shared.saw(want.now);
        let (now, want) = (want.now, Arc::new(want));
        let (last, look) = (want.claim, want.clone());
        let Found { mut acquired, mut claims, forget } =
            self.readers.read(OPERATION, move |sql| acquire::look(sql, &lease, &look)).await?;
        if forget {
            self.write_one(OPERATION, move |tx| Ok(acquire::forget(tx, &lease, &want)?)).await?;
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

    /// Listens, and lets other processes know, if that was not done before.
    pub(super) async fn listen(&self) -> Result<(), ProviderError> {
        let Some(port) = self.start_listener() else { return Ok(()) };
        if self.listener_registered.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let listed = self.write_one("register the listener", move |tx| Ok(members::listen(tx, port)?)).await;
        if listed.is_err() {
            self.listener_registered.store(false, Ordering::Relaxed);
        }
        listed
    }

    fn start_listener(&self) -> Option<u16> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_none() {
            match Listener::start(self.shared.clone(), self.writer.clone()) {
                Ok(new) => {
                    self.shared.listens_on(new.port());
                    *listener = Some(new);
                }
                Err(error) => {
                    tracing::warn!(%error, "no listener: the writes of other processes are found only by polling")
                }
            }
        }
        listener.as_ref().map(Listener::port)
    }

    async fn look(&self, operation: &'static str, lease: Lease) -> Result<Members, ProviderError> {
        let (shared, beats) = (self.shared.clone(), self.beats.clone());
        let look = move |sql: &Sql| {
            let mut beats = beats.lock().unwrap_or_else(PoisonError::into_inner);
            members::look(sql, &shared.path, lease.node, lease.epoch, &mut beats)
        };
        self.readers.read(operation, look).await
    }

    /// Holds the lock of a node, where others can see it. Whether that was possible.
    fn hold_lock(&self, node: NodeId) -> bool {
        let mut locks = self.locks();
        let lock = locks.entry(node).or_default();
        if !lock.as_ref().is_some_and(NodeLock::is_visible) {
            *lock = NodeLock::hold(&self.shared.path, node);
        }
        let held = lock.is_some();
        self.shared.nodes.store(locks.len(), Ordering::Relaxed);
        held
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<NodeId, Option<NodeLock>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(port) = self.shared.port() {
            let forget: fn(&mut Tx<'_>, &u16) -> Plain<usize> =
                |tx, port| Ok(tx.sql.run("DELETE FROM duroxide_listeners WHERE port = ?1", [port])?);
            let (job, _): (Box<dyn Job>, _) = Group::job(vec![port], forget);
            let _ = self.writer.send(Message::Job(job));
        }
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.writer.send(Message::Stop);
        if let Some(thread) = self.writer_thread.take() {
            let _ = thread.join();
        }
    }
}

fn epochs(members: &Members) -> Vec<Epoch> {
    members.dead.iter().map(|(epoch, _)| *epoch).collect()
}

/// Removes the files of those who were taken over.
fn bury(members: &mut Members) {
    for (_, lock) in members.dead.drain(..) {
        if let Some(lock) = lock {
            lock.remove();
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
