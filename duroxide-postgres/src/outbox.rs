//! Delivers the events that were raised within transactions of programs.
//!
//! One process at a time does so, under an advisory lock, so that the events of a transaction keep their order. An event is
//! delivered and removed from the outbox in one transaction: it is never delivered twice, however a process dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::again::has_panicked;
use crate::connect::{Connection, LIMIT, Use, step};
use crate::fault::Fault;
use crate::lane::Lane;
use crate::link::Link;
use crate::rows::{epoch, ready_by_time};
use crate::state::State;
use crate::within::{NoticeLimit, Statements};
use crate::work::Work;

/// The key of the advisory lock on the outbox; see [`crate::batch::MEMBERS`].
const KEY: i32 = -3;
/// The most events of one transaction.
const EVENTS: i64 = 256;
/// The poll of the outbox in the time after a write within a transaction of this process. At other times the connection that
/// listens looks for events ([`pulse`](crate::pulse)).
const SOON: Duration = Duration::from_millis(250);
const EXPECTED: Duration = Duration::from_secs(10);
/// The pauses after failures. The role of a client that only reads may fail forever.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The state of writes within transactions of the program.
pub(crate) struct Within {
    pub(crate) statements: Statements,
    pub(crate) limit: NoticeLimit,
    /// There may be events in the outbox.
    wake: Notify,
    /// A transaction of this process will commit soon.
    expected: Notify,
}

impl Within {
    pub(crate) fn new(schema: &str, channel: &str) -> Self {
        let statements = Statements::new(schema, channel);
        Self { statements, limit: NoticeLimit::default(), wake: Notify::new(), expected: Notify::new() }
    }

    /// A transaction of this process will commit soon, perhaps without a signal: poll frequently for a short time.
    pub(crate) fn expect(&self) {
        self.expected.notify_one();
    }

    /// There may be events in the outbox.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

const WAITS: &str = "SELECT 1 AS waits FROM outbox WHERE refused IS NULL ORDER BY seq LIMIT 1";
const TAKE: &str = "
    SELECT seq, instance FROM outbox WHERE refused IS NULL ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED";
/// In the order of all other locks.
const LOCK: &str = "SELECT seq FROM live WHERE seq = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE";
const DELIVER: &str = concat!(
    "WITH taken AS (
         SELECT o.instance, o.seq, o.id, o.sent_at, o.format, o.data, o.payload,
             row_number() OVER (PARTITION BY o.instance ORDER BY o.seq) AS n
         FROM outbox o WHERE o.seq = ANY ($1::bigint[])),
     counted AS (SELECT m.instance, max(m.n) AS n, min(",
    ready_by_time!("m.sent_at"),
    ") AS ready_at FROM taken m GROUP BY m.instance),
     target AS (
         UPDATE live l SET arrivals = l.arrivals + c.n, stored = l.stored + c.n FROM counted c WHERE l.seq = c.instance
         RETURNING l.seq, l.id, l.owner, l.name, l.version, l.crashes, l.suspect, l.suspended, l.rejected, l.arrivals,
             l.arrivals - c.n AS number, l.stored - c.n AS arrival, c.ready_at),
     message AS (
         INSERT INTO messages (instance, id, arrival, number, lane, arrived_at, sent, format, data, payload)
         SELECT t.seq, m.id, t.arrival + m.n, t.number + m.n, 2, m.sent_at, false, m.format, m.data, m.payload
         FROM taken m JOIN target t ON t.seq = m.instance),
     mailed AS (
         INSERT INTO mail (owner, instance, upto) SELECT owner, seq, arrivals FROM target WHERE owner IS NOT NULL
         ON CONFLICT (owner, instance) DO UPDATE SET upto = greatest(mail.upto, excluded.upto)),
     queued AS (
         INSERT INTO ready (seq, name, version, ready_at, crashes, suspect, rejected)
         SELECT seq, name, coalesce(version, ''), ready_at, crashes, suspect, rejected IS NOT NULL
         FROM target WHERE owner IS NULL AND NOT suspended
         ON CONFLICT (seq) DO UPDATE SET ready_at = least(ready.ready_at, excluded.ready_at)),
     gone AS (
         DELETE FROM outbox o USING target t WHERE o.seq = ANY ($1::bigint[]) AND o.instance = t.seq)
     SELECT t.owner, t.name, t.version, t.suspended FROM target t"
);
const REFUSE: &str = "
    UPDATE outbox o SET refused = coalesce((SELECT i.status FROM instances i WHERE i.seq = o.instance), 'none'), time = now()
    WHERE o.seq = ANY ($1::bigint[]) RETURNING o.seq";
const EXPIRE: &str = "DELETE FROM outbox WHERE refused IS NOT NULL AND time < now() - interval '1 day'";

/// Delivers events until the provider is dropped.
pub(crate) async fn run(state: Arc<State>, read: Arc<Lane>) {
    while has_panicked("events of transactions", deliver_when_woken(&state, &read)).await {}
}

async fn deliver_when_woken(state: &Arc<State>, read: &Lane) {
    let mut link = Link::new(state.clone(), Use::Planned);
    let mut expected: Option<Instant> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = state.within.wake.notified() => {}
            () = state.within.expected.notified() => expected = Some(Instant::now() + EXPECTED),
            () = tokio::time::sleep(SOON), if expected.is_some() => state.wakeups.work(),
        }
        expected = expected.filter(|until| Instant::now() < *until);
        let waits = async |connection: crate::connect::Shared| connection.query(step!(WAITS)).await;
        // An outage ends the look; the next one repeats it.
        let is_empty = read.call("look at the outbox", waits).await.map_or(true, |rows| rows.is_empty());
        if is_empty {
            continue;
        }
        match deliver(state, &mut link).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(reason) => {
                tracing::debug!(reason, "events of the outbox are delivered later");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                state.within.wake();
            }
        }
    }
}

/// Delivers all events that wait, unless another process does so.
async fn deliver(state: &State, link: &mut Link) -> Result<(), String> {
    // Newer programs deliver them.
    while state.check_may_write("deliver events").is_ok() {
        let connection = link.connection(Instant::now()).await?;
        let class = state.database.lock_class;
        let done = connection.transaction(async |connection| deliver_some(connection, class).await);
        let done = tokio::time::timeout(LIMIT, done).await.unwrap_or_else(|_| {
            connection.fell_silent();
            Err(Fault::Late)
        });
        let delivered = done.map_err(|fault| {
            if !fault.spares_connection() {
                connection.spoil();
            }
            fault.reason()
        })?;
        let Some(work) = delivered else { return Ok(()) };
        state.signal_work(work);
    }
    Ok(())
}

/// Returns the work that the delivered events make; `None` if there were none, or another process delivers them.
async fn deliver_some(connection: &Connection, class: i32) -> Result<Option<Work>, Fault> {
    let rows = connection.query(step!("SELECT pg_try_advisory_xact_lock($1, $2) AS mine", class, KEY)).await?;
    if !rows.first().map_or(Ok(false), |row| row.try_get("mine"))? {
        return Ok(None);
    }
    let rows = connection.query(step!(TAKE, EVENTS)).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let column = |name| rows.iter().map(|row| row.try_get(name)).collect::<Result<Vec<i64>, _>>();
    let (taken, instances) = (column("seq")?, column("instance")?);
    // Statements in one round trip: each sees what is committed when it begins, after the locks before it.
    let steps = [step!(LOCK, instances), step!(DELIVER, &taken), step!(REFUSE, &taken), step!(EXPIRE)];
    let answers = connection.run(&steps).await?;
    let refused = answers.get(2).map_or(0, Vec::len);
    if refused > 0 {
        tracing::warn!(refused, "events raised within transactions have no effect: their instances have finished");
    }
    let mut work = Work::default();
    for row in answers.get(1).into_iter().flatten() {
        match epoch(row, "owner")? {
            Some(owner) => drop(work.owners.insert(owner)),
            None if row.try_get("suspended")? => {}
            None => work.add_instance(row.try_get("name")?, row.try_get("version")?),
        }
    }
    Ok(Some(work))
}
