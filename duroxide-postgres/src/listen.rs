//! Listens to the notifications of other processes.
//!
//! The connection that listens is a session of the process, so it also holds the locks that show that the process lives
//! ([`session`]). A notification may be lost, so the process also looks slowly ([`pulse`](crate::pulse)), and at everything
//! once it listens again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::id::InstanceId;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, timeout};
use uuid::Uuid;

use crate::again::has_panicked;
use crate::connect::{Connection, Shared, step};
use crate::lane::Lane;
use crate::notify::channel;
use crate::pulse::{ANSWER, PERIOD, Pulses};
use crate::reads;
use crate::schema::may_write;
use crate::session;
use crate::state::State;
use crate::watches;

/// The most ends that one statement reads: each has an outcome.
const READ_TOGETHER: usize = 64;
/// The poll of work where notifications do not arrive.
const POLL_ALONE: Duration = Duration::from_millis(250);
/// The time between attempts to take a lock of a node.
const LOCK_AGAIN: Duration = Duration::from_secs(1);
/// The pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The lanes that listening uses.
pub(crate) struct Lanes {
    pub(crate) read: Arc<Lane>,
    pub(crate) renew: Arc<Lane>,
    pub(crate) members: Arc<Lane>,
}

/// Listens until the provider is dropped.
pub(crate) async fn run(state: Arc<State>, lanes: Lanes, from: Uuid) {
    let mut is_warned = false;
    while has_panicked("notifications of others", keep_listening(&state, &lanes, from, &mut is_warned)).await {}
}

async fn keep_listening(state: &Arc<State>, lanes: &Lanes, from: Uuid, is_warned: &mut bool) {
    let (mut pause, mut polled) = (FIRST_PAUSE, Instant::now());
    // A panic has closed the last connection.
    state.set_hears(false);
    session::withdraw(state, &lanes.renew);
    loop {
        let begun = Instant::now();
        if let Err(reason) = listen_once(state, lanes, from, is_warned).await {
            tracing::debug!(reason, "the listening connection is lost");
        }
        state.set_hears(false);
        session::withdraw(state, &lanes.renew);
        // The polls continue while there is no connection.
        state.wakeups.work();
        state.within.wake();
        if polled.elapsed() > watches::POLL {
            polled = Instant::now();
            state.wakeups.changed_where(|_| true);
        }
        if begun.elapsed() > 2 * PERIOD {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn listen_once(state: &Arc<State>, lanes: &Lanes, from: Uuid, is_warned: &mut bool) -> Result<(), String> {
    let (payloads, mut received) = mpsc::unbounded_channel();
    let notified = move |payload: String| drop(payloads.send(payload));
    let connection = state.database.listen(notified).await.map_err(|error| error.to_string())?;
    // The names consist of letters, digits and `_`.
    let listen = format!("LISTEN {}; LISTEN {}", channel(state), watches::channel(from));
    // Without a session of its own it would let another client of the pooler listen.
    if !connection.is_sessionless() {
        connection.execute(&listen).await.map_err(|fault| fault.reason())?;
    }
    // Notifications from before this moment did not arrive.
    state.wakeups.work();
    state.wakeups.changed_where(|_| true);
    state.within.wake();
    let probe = json!({ "from": from.to_string(), "work": false, "changed": [] }).to_string();
    send_probe(state, &lanes.read, &probe).await?;
    let mut hears = false;
    // Until the probe arrives, this process polls often, and knows no session. Then one statement is enough.
    let (mut poll, mut poll_outbox) = (every(POLL_ALONE), every(PERIOD));
    let (mut looks, mut pulses) = (state.sessions.follow_looks(), Pulses::new());
    let (mut poll_watches, mut expire_watches) = (every(watches::POLL), every(watches::EXPIRY));
    let (mut nodes, mut lock_again) = (state.sessions.follow(), every(LOCK_AGAIN));
    let mut is_locked = false;
    let too_late = tokio::time::sleep(ANSWER);
    tokio::pin!(too_late);
    loop {
        let next_look = *looks.borrow_and_update();
        tokio::select! {
            payload = received.recv() => match payload {
                Some(payload) if payload == probe => {
                    hears = true;
                    // Until now, no watch was written.
                    state.set_hears(true);
                    state.wakeups.changed_where(|_| true);
                    is_locked = lock_nodes(state, &lanes.renew, &connection).await?;
                }
                Some(payload) => tell(state, &lanes.read, &payload, from),
                None => return Err("the connection has ended".to_owned()),
            },
            () = &mut too_late, if !hears && !*is_warned => {
                *is_warned = true;
                tracing::warn!(
                    schema = state.database.schema,
                    "notifications of the database do not arrive, as behind a pooler in transaction mode; this process \
                     polls four times per second: name a direct way to the database by `PostgresOptions::listen_url`"
                );
            }
            _ = poll.tick(), if !hears => {
                state.wakeups.work();
                state.wakeups.changed_where(|_| true);
            }
            _ = poll_outbox.tick(), if !hears => {
                state.within.wake();
                answers(&connection).await?;
            }
            () = tokio::time::sleep_until(pulses.next(next_look)), if hears => {
                let dead = pulses.send(state, &connection).await?;
                if !dead.is_empty() {
                    tokio::spawn(session::take_over(state.clone(), lanes.members.clone(), dead));
                }
            }
            // The next look was moved. The state, and so the sender, lives as long as this task.
            _ = looks.changed() => {}
            // A connection that hears is a session of this process.
            Ok(()) = nodes.changed(), if hears => is_locked = lock_nodes(state, &lanes.renew, &connection).await?,
            _ = lock_again.tick(), if hears && !is_locked => {
                is_locked = lock_nodes(state, &lanes.renew, &connection).await?;
            }
            _ = expire_watches.tick(), if state.wakeups.is_watched() => {
                tokio::spawn(watches::expire(state.clone(), lanes.read.clone()));
            }
            _ = poll_watches.tick() => {
                state.wakeups.changed_where(|_| true);
                if !hears {
                    tokio::spawn(observe_schema(state.clone(), lanes.read.clone()));
                }
            }
        }
    }
}

/// Reads the first version that may write the schema, which a newer program may have changed: a client has no renewals.
async fn observe_schema(state: Arc<State>, lane: Arc<Lane>) {
    let read = async |connection: Shared| {
        let rows = connection.query(step!("SELECT writes_from FROM meta")).await?;
        rows.first().map(|row| Ok(may_write(row.try_get("writes_from")?))).transpose()
    };
    if let Ok(Some(may_write)) = lane.call("read the version of the schema", read).await {
        state.set_may_write(may_write);
    }
}

/// Takes the locks of the nodes of this process. Returns true if all of them are held.
async fn lock_nodes(state: &Arc<State>, renew: &Arc<Lane>, connection: &Connection) -> Result<bool, String> {
    let locked = timeout(ANSWER, state.sessions.lock(connection)).await.map_err(|_| "it does not answer".to_owned())?;
    let locked = locked.map_err(|fault| fault.reason())?;
    if locked.any {
        tokio::spawn(session::show(state.clone(), renew.clone()));
    }
    Ok(locked.all)
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Sends a notification to this process itself. It takes another connection, as that of another process does: a pooler
/// would deliver to a client the notifications that this client sends, and no others.
async fn send_probe(state: &State, lane: &Lane, probe: &str) -> Result<(), String> {
    let (channel, probe) = (channel(state), probe.to_owned());
    let send =
        async move |connection: Shared| connection.query(step!("SELECT pg_notify($1, $2)", channel, probe)).await;
    lane.call("test the notifications", send).await.map(drop).map_err(|error| error.to_string())
}

/// Checks that the connection still answers, while it sends no pulses. The statement is not prepared, so that it succeeds
/// behind any pooler.
async fn answers(connection: &Connection) -> Result<(), String> {
    let answer = timeout(ANSWER, connection.execute("SELECT 1")).await;
    answer.map_err(|_| "it does not answer".to_owned())?.map_err(|fault| fault.reason())
}

/// Passes a notification on within this process. One that cannot be read, of a later version, tells of everything.
fn tell(state: &Arc<State>, read: &Arc<Lane>, payload: &str, from: Uuid) {
    let notice: Value = serde_json::from_str(payload).unwrap_or_default();
    if notice["from"].as_str() == Some(&from.to_string()) {
        return;
    }
    if notice["outbox"] == Value::Bool(true) {
        state.within.wake();
    }
    let Some(changed) = notice["changed"].as_array() else {
        state.wakeups.work();
        state.wakeups.changed_where(|_| true);
        return;
    };
    if notice["work"] == Value::Bool(true) && concerns(&state.sessions.own(), &notice["to"]) {
        state.wakeups.work();
    }
    let changed: HashSet<&str> = changed.iter().filter_map(Value::as_str).collect();
    if changed.is_empty() {
        return;
    }
    let watched = state.wakeups.watched_where(|id| changed.contains(id.as_str()));
    if !watched.is_empty() {
        tokio::spawn(tell_ends(state.clone(), read.clone(), watched));
    }
}

/// Returns true if work for these nodes concerns one of this process. Without nodes it concerns all.
fn concerns(own: &[i64], to: &Value) -> bool {
    to.as_array().is_none_or(|to| to.iter().any(|node| node.as_i64().is_some_and(|node| own.contains(&node))))
}

/// Reads the ends of watched instances that have changed, for all their watches together. The watches of the others read
/// them.
async fn tell_ends(state: Arc<State>, read: Arc<Lane>, watched: Vec<InstanceId>) {
    for some in watched.chunks(READ_TOGETHER) {
        let instances = some.to_vec();
        let ends = async move |connection: Shared| reads::ends(&connection, &instances).await;
        let ends = read.call("read the ends of instances", ends).await.unwrap_or_default();
        let ended: HashSet<InstanceId> = ends.iter().map(|(id, _)| id.clone()).collect();
        ends.into_iter().for_each(|(id, end)| state.wakeups.finished(&id, end));
        some.iter().filter(|id| !ended.contains(*id)).for_each(|id| state.wakeups.changed(id));
    }
}
