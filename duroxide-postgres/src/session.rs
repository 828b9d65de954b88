//! Sessions: the death of a process is seen before the lease of its node is over.
//!
//! A process holds an advisory lock for each of its nodes on the connection that listens, and shows it in the row of the node
//! (`session_on`). When the process dies, its machine closes the connection, and the server releases the lock. Every two
//! seconds, each process tries the locks of the nodes before its own ones, in the order of their epochs. A node whose lock
//! is free, and which does not renew in the [`GRACE`] that follows, is taken over. If the connection is lost and the process
//! lives, it withdraws the lock and takes it again. A process without other nodes does not look. It looks again when one
//! has joined, which a notification tells, or every half minute if that is lost.
//!
//! A cut of the network leaves the session on the server, and a restart of the server, or the promotion of a standby, ends
//! all of them at once. So a lock that is held proves nothing, and one that was taken on another server, which has another
//! time of its start, is not tried: then the lease decides, as it does behind a pooler that does not keep sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use duroxide::id::Epoch;
use tokio::sync::watch;

use crate::again::has_panicked;
use crate::batch::epoch_key;
use crate::connect::{Connection, Shared, step};
use crate::fault::Fault;
use crate::lane::Lane;
use crate::members;
use crate::rows::{int, natural};
use crate::state::State;

/// The time for which a process with a free lock may lock again or renew.
const GRACE: Duration = Duration::from_secs(2);
/// The time between two looks at the locks of others, and that after a free lock was found.
const LOOK: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(2100);

/// The start of the server, in microseconds.
macro_rules! server {
    () => {
        "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint"
    };
}
pub(crate) use server;

/// True if the lock of a node is known to be free: it was found free before, its process had time since, and it is still
/// free. The parameter is the class of these locks.
macro_rules! is_released {
    ($class:literal) => {
        concat!(
            "(released_at + interval '2 seconds' <= clock_timestamp() AND CASE
                 WHEN session_on = ",
            $crate::session::server!(),
            " THEN pg_try_advisory_xact_lock_shared(",
            $class,
            ", (epoch & 2147483647)::integer) ELSE false END)"
        )
    };
}
pub(crate) use is_released;

/// Takes locks, in the order of the keys.
const LOCK: &str = concat!(
    "SELECT pg_try_advisory_lock($1, k) AS taken, ",
    server!(),
    " AS server FROM unnest($2::integer[]) WITH ORDINALITY AS t (k, n) ORDER BY n"
);

/// Looks at the lock of the node before each own one; before the first one comes the last one. Without other nodes it
/// returns no row.
const LOOK_AT_OTHERS: &str = concat!(
    "WITH watched AS MATERIALIZED (
        SELECT DISTINCT coalesce(
            (SELECT max(n.epoch) FROM nodes n WHERE NOT n.dead AND n.epoch < o.epoch AND n.epoch <> ALL ($1)),
            (SELECT max(n.epoch) FROM nodes n WHERE NOT n.dead AND n.epoch <> ALL ($1))) AS epoch
        FROM unnest($1::bigint[]) AS o (epoch)),
    free AS MATERIALIZED (
        SELECT n.epoch, n.released_at FROM nodes n
        WHERE n.epoch IN (SELECT epoch FROM watched) AND NOT n.dead AND CASE
            WHEN n.session_on = ",
    server!(),
    " THEN pg_try_advisory_xact_lock_shared($2, (n.epoch & 2147483647)::integer) ELSE false END),
    seen AS (
        UPDATE nodes n SET released_at = clock_timestamp() FROM free f
        WHERE n.epoch = f.epoch AND n.released_at IS NULL)
    SELECT epoch, f.epoch IS NOT NULL AS free,
        coalesce(f.released_at + interval '2 seconds' <= clock_timestamp(), false) AS released
    FROM watched w LEFT JOIN free f USING (epoch) WHERE epoch IS NOT NULL"
);

const _: () = assert!(GRACE.as_secs() == 2, "the statements repeat this time");

/// The nodes of this process, and the locks that it holds for them.
#[derive(Default)]
pub(crate) struct Sessions {
    /// The class of the locks.
    pub(crate) class: i32,
    nodes: watch::Sender<BTreeSet<Epoch>>,
    /// The locks that are held, each with the start of its server. A std mutex, held for a few instructions.
    held: Mutex<BTreeMap<Epoch, i64>>,
    /// Counts the moments at which another node may have joined.
    joins: AtomicUsize,
    /// That count before the last request that has found no other member.
    alone_at: AtomicUsize,
}

impl Sessions {
    /// The class differs from that of the other locks of the schema, whose name has no blank.
    pub(crate) fn new(schema: &str) -> Self {
        let class = crate::connect::lock_class(&format!("{schema} sessions"));
        Self { class, ..Self::default() }
    }

    /// A node of this process has joined.
    pub(crate) fn joined(&self, epoch: Epoch) {
        self.nodes.send_if_modified(|nodes| nodes.insert(epoch));
    }

    /// A membership has ended.
    pub(crate) fn ended(&self, epoch: Epoch) {
        self.nodes.send_if_modified(|nodes| nodes.remove(&epoch));
    }

    /// Another node may have joined.
    pub(crate) fn other_may_have_joined(&self) {
        self.joins.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of times that another node may have joined, for [`found_others`](Self::found_others).
    pub(crate) fn joins(&self) -> usize {
        self.joins.load(Ordering::Relaxed)
    }

    /// A request has found other members, or none. One that has joined since `joins` was read may be missing in its answer.
    pub(crate) fn found_others(&self, any: bool, joins: usize) {
        if !any {
            self.alone_at.store(joins, Ordering::Relaxed);
        } else if !self.has_others() {
            self.other_may_have_joined();
        }
    }

    /// Returns false if there is no other member, as far as is known.
    fn has_others(&self) -> bool {
        self.joins() != self.alone_at.load(Ordering::Relaxed)
    }

    /// Returns true if the lock of a node is held.
    pub(crate) fn holds(&self, epoch: Epoch) -> bool {
        self.held().contains_key(&epoch)
    }

    /// Follows the nodes of this process.
    pub(crate) fn follow(&self) -> watch::Receiver<BTreeSet<Epoch>> {
        self.nodes.subscribe()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<Epoch, i64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the locks of new nodes, and releases those of nodes that have left. Returns the number of locks that were not
    /// taken, because another process is trying them or the server has not yet ended the last session of this one.
    pub(crate) async fn lock(&self, connection: &Connection) -> Result<Locked, Fault> {
        let nodes = self.nodes.borrow().clone();
        let held: BTreeSet<Epoch> = self.held().keys().copied().collect();
        let keys = |epochs: &[Epoch]| epochs.iter().map(|epoch| epoch_key(*epoch)).collect::<Vec<_>>();
        let old: Vec<Epoch> = held.difference(&nodes).copied().collect();
        if !old.is_empty() {
            let unlock = "SELECT pg_advisory_unlock($1, k) FROM unnest($2::integer[]) AS t (k)";
            connection.query(step!(unlock, self.class, keys(&old))).await?;
            self.held().retain(|epoch, _| !old.contains(epoch));
        }
        let new: Vec<Epoch> = nodes.difference(&held).copied().collect();
        if new.is_empty() {
            return Ok(Locked { any: false, all: true });
        }
        let rows = connection.query(step!(LOCK, self.class, keys(&new))).await?;
        let mut taken = Vec::new();
        for (epoch, row) in new.iter().zip(&rows) {
            if row.try_get("taken")? {
                taken.push((*epoch, row.try_get("server")?));
            }
        }
        let locked = Locked { any: !taken.is_empty(), all: taken.len() == new.len() };
        self.held().extend(taken);
        Ok(locked)
    }
}

/// The locks that were taken.
pub(crate) struct Locked {
    pub(crate) any: bool,
    pub(crate) all: bool,
}

/// Withdraws all locks, which have ended with the connection.
pub(crate) fn withdraw(state: &Arc<State>, renew: &Arc<Lane>) {
    let held = std::mem::take(&mut *state.sessions.held());
    if !held.is_empty() {
        tokio::spawn(show(state.clone(), renew.clone()));
    }
}

/// Shows in the rows of the nodes which of their locks are held now. The lane carries out one request after another, so the
/// last one shows the last state. A renewal withdraws the locks that are no longer held, too.
pub(crate) async fn show(state: Arc<State>, renew: Arc<Lane>) {
    let now = state.clone();
    let show = async move |connection: Shared| {
        let nodes: Vec<i64> = now.sessions.nodes.borrow().iter().map(|epoch| int(epoch.0)).collect();
        let (held, servers): (Vec<i64>, Vec<i64>) =
            now.sessions.held().iter().map(|(epoch, server)| (int(epoch.0), *server)).unzip();
        let update = "UPDATE nodes n
            SET session_on = (SELECT t.server FROM unnest($2::bigint[], $3::bigint[]) AS t (epoch, server)
                WHERE t.epoch = n.epoch), released_at = NULL
            WHERE epoch = ANY ($1::bigint[]) AND NOT dead AND (session_on IS NOT NULL OR epoch = ANY ($2))";
        connection.query(step!(update, nodes, held, servers)).await
    };
    if let Err(error) = renew.call_within(state.renewal_limit(), "show the locks of sessions", show).await {
        tracing::debug!(%error, "the lock of a session is not shown");
    }
}

/// Looks at the locks of others as long as this process has nodes, and takes over those whose processes have died.
pub(crate) async fn watch_others(state: Arc<State>, read: Arc<Lane>, members: Arc<Lane>) {
    while has_panicked("looks at other sessions", keep_watching(&state, &read, &members)).await {}
}

async fn keep_watching(state: &Arc<State>, read: &Lane, members: &Lane) {
    let mut nodes = state.sessions.follow();
    let mut pause = LOOK;
    loop {
        // The state, and so the sender, lives as long as this task.
        let _ = nodes.wait_for(|nodes| !nodes.is_empty()).await;
        tokio::time::sleep(pause).await;
        pause = LOOK;
        if !state.sessions.has_others() {
            continue;
        }
        match look(state, read).await {
            Ok(Found { released, any }) => {
                if any {
                    pause = SOON;
                }
                if !released.is_empty() {
                    take_over(state, members, released).await;
                }
            }
            Err(error) => tracing::debug!(%error, "the sessions of other nodes are looked at later"),
        }
    }
}

/// The locks of others that are free.
struct Found {
    any: bool,
    /// The nodes whose time of grace is over.
    released: Vec<Epoch>,
}

async fn look(state: &State, read: &Lane) -> Result<Found, duroxide::provider::ProviderError> {
    let own: Vec<i64> = state.sessions.nodes.borrow().iter().map(|epoch| int(epoch.0)).collect();
    let (class, joins) = (state.sessions.class, state.sessions.joins());
    let look = async move |connection: Shared| {
        let rows = connection.query(step!(LOOK_AT_OTHERS, own, class)).await?;
        let mut released = Vec::new();
        let mut any = false;
        for row in &rows {
            any |= row.try_get::<_, bool>("free")?;
            if row.try_get("released")? {
                released.push(Epoch(natural(row, "epoch")?));
            }
        }
        Ok((!rows.is_empty(), Found { any, released }))
    };
    let (has_others, found) = read.call("look at the sessions of other nodes", look).await?;
    state.sessions.found_others(has_others, joins);
    Ok(found)
}

async fn take_over(state: &Arc<State>, members: &Lane, released: Vec<Epoch>) {
    let state = state.clone();
    let sweep = async move |connection: Shared| {
        members::sweep(&connection, &state, &released, Instant::now() + members::SWEEP).await
    };
    if let Err(error) = members.call("take over a node", sweep).await {
        tracing::warn!(%error, "the items of a dead node are not released yet");
    }
}
