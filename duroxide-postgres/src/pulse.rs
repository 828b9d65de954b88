//! The pulse: one statement for all that a process looks at while it waits.
//!
//! It runs on the connection that listens, so its answer also shows that this connection is alive: one that is half open
//! hears nothing, and reports nothing. It finds the work whose notification was lost, events in the outbox, a schema that
//! a newer program has changed, and processes that have died ([`session`](crate::session)). It also reads the members, which
//! are told of work ([`work`](crate::work)).

use std::time::Duration;

use duroxide::id::Epoch;
use tokio::time::{Instant, timeout};

use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::queue::free_activities;
use crate::rollout::member_columns;
use crate::schema::may_write;
use crate::session::look_at_others;
use crate::state::State;

/// The longest time between two pulses.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);
/// The least time between two requests for work that pulses cause. Work that waits for a permit, for example, is found by
/// each pulse.
const REQUESTS: Duration = Duration::from_secs(3);
/// The time in which the listening connection must answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// True if there may be work for the own nodes. A request for work decides: this condition holds whenever such a request
/// would return something, and rarely otherwise.
///
/// Each part reads an index from its beginning up to the first row. The limits keep a plan from reading all rows of all
/// queues into a hash table first.
macro_rules! has_work {
    () => {
        concat!(
            "EXISTS (SELECT 1 FROM mail m WHERE m.owner = ANY ($1::bigint[]))
         OR EXISTS (SELECT 1 FROM cancellations c WHERE c.epoch = ANY ($1::bigint[]))
         OR (cardinality($1::bigint[]) > 0 AND EXISTS (
             SELECT 1 FROM messages m JOIN live l ON l.seq = m.instance WHERE m.lane = 3 AND l.owner IS NULL))
         OR EXISTS (SELECT 1 FROM unnest($3::text[], $4::text[]) AS t (name, version) CROSS JOIN LATERAL (
             (SELECT 1 FROM ready r WHERE r.name = t.name AND r.version = t.version AND r.ready_at <= $7::bigint
                  AND (r.crashes < 3 OR r.suspect) LIMIT 1)
             UNION ALL
             (SELECT 1 FROM ready r WHERE r.name = t.name AND r.version = t.version AND r.ready_at <= $7::bigint
                  AND r.crashes >= 3 AND NOT r.suspect LIMIT 1)) r)
         OR EXISTS (SELECT 1 FROM unnest($5::text[]) AS t (name) CROSS JOIN LATERAL (",
            free_activities!(
                "1",
                "t.name",
                "$6",
                "true",
                "a.ready_at <= $7::bigint AND (a.crashes < 3 OR a.suspect)",
                "1"
            ),
            " UNION ALL ",
            free_activities!(
                "1",
                "t.name",
                "$6",
                "true",
                "a.ready_at <= $7::bigint AND a.crashes >= 3 AND NOT a.suspect",
                "1"
            ),
            ") a)"
        )
    };
}

/// The time at which the next item becomes due, if any has a time.
macro_rules! next_due {
    () => {
        concat!(
            "least(
             (SELECT min(r.ready_at) FROM unnest($3::text[], $4::text[]) AS t (name, version) CROSS JOIN LATERAL (
                 SELECT r.ready_at FROM ready r WHERE r.name = t.name AND r.version = t.version AND r.ready_at > $7::bigint
                     AND (r.crashes < 3 OR r.suspect) ORDER BY r.ready_at LIMIT 1) r),
             (SELECT min(a.ready_at) FROM unnest($5::text[]) AS t (name) CROSS JOIN LATERAL (",
            free_activities!(
                "a.ready_at",
                "t.name",
                "$6",
                "true",
                "a.ready_at > $7::bigint AND (a.crashes < 3 OR a.suspect)",
                "1"
            ),
            ") a))"
        )
    };
}

/// The answer has a row for each member, and one if there is none.
const PULSE: &str = concat!(
    "WITH ",
    look_at_others!("$1", "$2"),
    " SELECT f.*, ",
    member_columns!("$8"),
    " FROM (SELECT ",
    has_work!(),
    " AS work, ",
    next_due!(),
    " AS next_due, EXISTS (SELECT 1 FROM outbox WHERE refused IS NULL) AS outbox,
         (SELECT writes_from FROM meta) AS writes_from,
         EXISTS (SELECT 1 FROM watched WHERE epoch IS NOT NULL) AS others, EXISTS (SELECT 1 FROM free) AS free,
         ARRAY (SELECT epoch FROM free WHERE released ORDER BY epoch) AS released) f
     LEFT JOIN nodes n ON NOT n.dead"
);

/// The pulse of a process without a node, which claims nothing and looks at no session. It writes nothing, so that the role of
/// a client may have the right to read alone.
const PULSE_OF_CLIENT: &str = concat!(
    "SELECT f.*, ",
    member_columns!("$1"),
    " FROM (SELECT false AS work, NULL::bigint AS next_due, EXISTS (SELECT 1 FROM outbox WHERE refused IS NULL) AS outbox,
         (SELECT writes_from FROM meta) AS writes_from, false AS others, false AS free, '{}'::bigint[] AS released) f
     LEFT JOIN nodes n ON NOT n.dead"
);

/// The time after which a pulse looks whether an item that has become due was taken: few nodes know of it, and they may have
/// died.
const TAKEN: Duration = Duration::from_millis(300);
/// The least time between two pulses for that reason.
const SOON: Duration = Duration::from_millis(500);

/// The pulses of a connection that listens.
pub(crate) struct Pulses {
    /// `None`: there was none.
    last: Option<Instant>,
    /// The time of a look for an item that has become due by then.
    due: Option<Instant>,
    /// The last request for work that a pulse has caused.
    last_request: Option<Instant>,
}

impl Pulses {
    pub(crate) fn new() -> Self {
        Self { last: None, due: None, last_request: None }
    }

    /// Returns the time of the next pulse: that of the next look at other sessions, if it comes first. The first one is due at
    /// once, since it reads the members.
    pub(crate) fn next(&self, look: Option<std::time::Instant>) -> Instant {
        let latest = self.last.map_or_else(Instant::now, |last| last + PERIOD);
        look.map(Instant::from).into_iter().chain(self.due).fold(latest, Instant::min)
    }

    /// Sends a pulse, and tells this process what it has found. Returns the nodes to be taken over.
    ///
    /// # Errors
    /// If the connection does not answer, or is lost. After any other failure, everything is requested.
    pub(crate) async fn send(&mut self, state: &State, connection: &Connection) -> Result<Vec<Epoch>, String> {
        let found = timeout(ANSWER, pulse(state, connection)).await;
        let now = Instant::now();
        (self.last, self.due) = (Some(now), None);
        let found = found.map_err(|_| "it does not answer".to_owned())?;
        let found = match found {
            Err(fault) if !fault.spares_connection() => return Err(fault.reason()),
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), "a look for lost notifications has failed");
                state.sessions.looked(true, false);
                Found { work: true, outbox: true, released: Vec::new(), next_due: None }
            }
            Ok(found) => found,
        };
        // Later ones are found by the next pulse.
        let next_due = found.next_due.filter(|left| *left < PERIOD);
        self.due = next_due.map(|left| now + (left + TAKEN).max(SOON));
        if found.work {
            match self.last_request.map(|last| last + REQUESTS).filter(|allowed| *allowed > now) {
                Some(allowed) => self.due = Some(self.due.map_or(allowed, |due| due.min(allowed))),
                None => {
                    self.last_request = Some(now);
                    state.wakeups.work();
                }
            }
        }
        if found.outbox {
            state.within.wake();
        }
        Ok(found.released)
    }
}

struct Found {
    work: bool,
    outbox: bool,
    /// The time until the next item becomes due.
    next_due: Option<Duration>,
    /// The nodes of processes that have died, whose time of grace is over.
    released: Vec<Epoch>,
}

async fn pulse(state: &State, connection: &Connection) -> Result<Found, Fault> {
    let own = state.sessions.own();
    // The first request for work of a node reads its code.
    let served = state.code.served_by(&own);
    let is_known = served.is_some();
    let served = served.unwrap_or_default();
    let (names, versions): (Vec<String>, Vec<String>) = served.orchestrations.into_iter().unzip();
    let (activities, tags) = (served.activities, served.tags);
    let (due, known) = (state.due(), state.code.known());
    let look = if own.is_empty() {
        step!(PULSE_OF_CLIENT, known)
    } else {
        step!(PULSE, own, state.sessions.class, names, versions, activities, tags, due, known)
    };
    let rows = connection.query(look).await?;
    state.code.members(&rows)?;
    let row = rows.first().ok_or_else(|| Fault::Unreadable("a pulse has no answer".to_owned()))?;
    state.set_may_write(may_write(row.try_get("writes_from")?));
    state.sessions.looked(row.try_get("others")?, row.try_get("free")?);
    let released: Vec<i64> = row.try_get("released")?;
    let next_due: Option<i64> = row.try_get("next_due")?;
    Ok(Found {
        next_due: next_due.map(|at| Duration::from_micros(at.saturating_sub(due).unsigned_abs())),
        work: row.try_get::<_, bool>("work")? || !is_known,
        outbox: row.try_get("outbox")?,
        released: released.into_iter().map(|epoch| Epoch(epoch.unsigned_abs())).collect(),
    })
}
