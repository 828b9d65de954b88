//! Sessions: the death of a process is seen before the lease of its node is over.
//!
//! A process holds an advisory lock for each of its nodes on the connection that listens, and shows it in the row of the node
//! (`session_on`). When the process dies, its machine closes the connection, and the server releases the lock. Every two
//! seconds, each process tries the locks of the nodes before its own ones, in the order of their epochs: within a renewal
//! ([`members`]), and between two of them by a statement of its own ([`pulse`](crate::pulse)). A node whose lock is free,
//! and which does not renew in the [`GRACE`] that follows, is taken over. If the connection is lost and the process lives, it
//! withdraws the lock and takes it again.
//!
//! A cut of the network leaves the session on the server, and a restart of the server, or the promotion of a standby, ends
//! all of them at once. So a lock that is held proves nothing, and one that was taken on another server, which has another
//! time of its start, is not tried: then the lease decides, as it does behind a pooler that does not keep sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use duroxide::id::Epoch;
use tokio::sync::watch;

use crate::batch::epoch_key;
use crate::connect::{Connection, Shared, step};
use crate::fault::Fault;
use crate::lane::Lane;
use crate::members;
use crate::rows::int;
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

/// Common table expressions that try the lock of the node before each own one; before the first one comes the last one.
/// `free` are the nodes whose locks are free; they are marked. `OFFSET` keeps a plan from trying other locks. The parameters
/// are the own nodes and the class of the locks.
macro_rules! look_at_others {
    ($own:literal, $class:literal) => {
        concat!(
            "watched AS MATERIALIZED (
                SELECT DISTINCT coalesce(
                    (SELECT max(n.epoch) FROM nodes n
                     WHERE NOT n.dead AND n.epoch < o.epoch AND n.epoch <> ALL (",
            $own,
            "::bigint[])),
                    (SELECT max(n.epoch) FROM nodes n WHERE NOT n.dead AND n.epoch <> ALL (",
            $own,
            "::bigint[]))) AS epoch
                FROM unnest(",
            $own,
            "::bigint[]) AS o (epoch)),
            free AS MATERIALIZED (
                SELECT n.epoch, coalesce(n.released_at + interval '2 seconds' <= clock_timestamp(), false) AS released
                FROM (SELECT n.epoch, n.session_on, n.released_at FROM watched w JOIN nodes n ON n.epoch = w.epoch
                    WHERE NOT n.dead OFFSET 0) n
                WHERE CASE WHEN n.session_on = ",
            $crate::session::server!(),
            " THEN pg_try_advisory_xact_lock_shared(",
            $class,
            ", (n.epoch & 2147483647)::integer) ELSE false END),
            seen AS (
                UPDATE nodes SET released_at = clock_timestamp()
                WHERE epoch IN (
                    SELECT n.epoch FROM nodes n JOIN free f ON f.epoch = n.epoch WHERE n.released_at IS NULL
                    ORDER BY n.epoch FOR NO KEY UPDATE OF n SKIP LOCKED))"
        )
    };
}
pub(crate) use look_at_others;

const _: () = assert!(GRACE.as_secs() == 2, "the statements repeat this time");

/// The nodes of this process, and the locks that it holds for them.
pub(crate) struct Sessions {
    /// The class of the locks.
    pub(crate) class: i32,
    nodes: watch::Sender<BTreeSet<Epoch>>,
    /// The locks that are held, each with the start of its server. A std mutex, held for a few instructions.
    held: Mutex<BTreeMap<Epoch, i64>>,
    /// The time of the next look at the locks of others. `None`: there are none, as the last look has shown.
    next_look: watch::Sender<Option<Instant>>,
}

impl Sessions {
    /// The class differs from that of the other locks of the schema, whose name has no blank.
    pub(crate) fn new(schema: &str) -> Self {
        let class = crate::connect::lock_class(&format!("{schema} sessions"));
        Self { class, nodes: watch::Sender::default(), held: Mutex::default(), next_look: watch::Sender::default() }
    }

    /// A node of this process has joined.
    pub(crate) fn joined(&self, epoch: Epoch) {
        self.nodes.send_if_modified(|nodes| nodes.insert(epoch));
    }

    /// A membership has ended.
    pub(crate) fn ended(&self, epoch: Epoch) {
        self.nodes.send_if_modified(|nodes| nodes.remove(&epoch));
    }

    /// The locks of others were looked at. `found`: one of them is free.
    pub(crate) fn looked(&self, has_others: bool, found: bool) {
        let pause = if found { SOON } else { LOOK };
        let looks_again = has_others && !self.nodes.borrow().is_empty();
        self.next_look.send_replace(looks_again.then(|| Instant::now() + pause));
    }

    /// Follows the time of the next look.
    pub(crate) fn follow_looks(&self) -> watch::Receiver<Option<Instant>> {
        self.next_look.subscribe()
    }

    /// Returns the nodes of this process.
    pub(crate) fn nodes(&self) -> BTreeSet<Epoch> {
        self.nodes.borrow().clone()
    }

    /// Returns the nodes of this process, as a value of a statement.
    pub(crate) fn own(&self) -> Vec<i64> {
        self.nodes.borrow().iter().map(|epoch| int(epoch.0)).collect()
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
        let nodes = now.sessions.own();
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

/// Takes over nodes whose locks are free and whose time of grace is over.
pub(crate) async fn take_over(state: Arc<State>, members: Arc<Lane>, released: Vec<Epoch>) {
    let sweep = async move |connection: Shared| {
        members::sweep(&connection, &state, &released, Instant::now() + members::SWEEP).await
    };
    if let Err(error) = members.call("take over a node", sweep).await {
        tracing::warn!(%error, "the items of a dead node are not released yet");
    }
}
