//! Notifications between processes, by NOTIFY and LISTEN.
//!
//! A notification is sent after the transaction that it tells of, by a statement of its own: within that transaction, it
//! would hold a lock of the whole database server until the transaction is flushed. It may be lost, if the process dies in
//! between or a connection is lost, so each process also polls slowly, and looks at everything once it listens again.
//!
//! All processes listen to one channel of the schema. Notices that come while one is being sent are merged. The connection
//! that listens is a session of the process, so it also holds the locks that show that the process lives ([`session`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::id::InstanceId;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::again::has_panicked;
use crate::connect::{Connection, Shared, Use, step};
use crate::fault::Fault;
use crate::lane::Lane;
use crate::schema::may_write;
use crate::session;
use crate::state::{Notice, State};

/// The pause after a notification, which limits them to 200 per second and process.
const PAUSE: Duration = Duration::from_millis(5);
/// The limit of the ids in one notification, in bytes; PostgreSQL allows 8000 in all.
const IDS: usize = 4000;
/// The polls of work, of watched instances, and of the listening connection itself.
const POLL: Duration = Duration::from_secs(5);
const POLL_WATCHES: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_secs(10);
/// The poll of work where notifications do not arrive.
const POLL_ALONE: Duration = Duration::from_millis(250);
/// The time in which the listening connection must answer, and the probe must arrive.
const ANSWER: Duration = Duration::from_secs(5);
/// The time between attempts to take a lock of a node.
const LOCK_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Returns the channel of a schema.
fn channel(state: &State) -> String {
    channel_of(&state.database.schema)
}

pub(crate) fn channel_of(schema: &str) -> String {
    format!("duroxide_{schema}")
}

/// Sends the notices of this process until the provider is dropped.
pub(crate) async fn send(state: Arc<State>, lane: Arc<Lane>, mut notices: mpsc::UnboundedReceiver<Notice>, from: Uuid) {
    while has_panicked("notifications", send_all(&state, &lane, &mut notices, from)).await {}
}

async fn send_all(state: &State, lane: &Lane, notices: &mut mpsc::UnboundedReceiver<Notice>, from: Uuid) {
    while let Some(mut notice) = notices.recv().await {
        while let Ok(more) = notices.try_recv() {
            notice.work |= more.work;
            notice.joined |= more.joined;
            notice.changed.extend(more.changed);
        }
        let payloads = payloads(notice, from);
        let channels = vec![channel(state); payloads.len()];
        let sent = lane.call("notify other processes", async move |connection| {
            let send = "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t (c, p)";
            connection.query(step!(send, channels, payloads)).await
        });
        if let Err(error) = sent.await {
            tracing::warn!(%error, "other processes learn of changes by their next poll");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the payloads of a notice. Each has a limited number of ids.
fn payloads(notice: Notice, from: Uuid) -> Vec<String> {
    let mut parts: Vec<(usize, Vec<&str>)> = vec![(0, Vec::new())];
    for id in &notice.changed {
        // A character may take six bytes in JSON.
        let size = id.as_str().len() * 6 + 3;
        if parts.last().is_none_or(|(bytes, _)| bytes + size > IDS) {
            parts.push((0, Vec::new()));
        }
        if let Some((bytes, ids)) = parts.last_mut() {
            *bytes += size;
            ids.push(id.as_str());
        }
    }
    let payload = |(n, (_, ids)): (usize, (usize, Vec<&str>))| {
        let (work, joined) = (notice.work && n == 0, notice.joined && n == 0);
        json!({ "from": from.to_string(), "work": work, "joined": joined, "changed": ids }).to_string()
    };
    parts.into_iter().enumerate().map(payload).collect()
}

/// Listens to the notifications of other processes, and polls.
pub(crate) async fn listen(state: Arc<State>, lane: Arc<Lane>, renew: Arc<Lane>, from: Uuid) {
    let mut is_warned = false;
    while has_panicked("notifications of others", keep_listening(&state, &lane, &renew, from, &mut is_warned)).await {}
}

async fn keep_listening(state: &Arc<State>, lane: &Arc<Lane>, renew: &Arc<Lane>, from: Uuid, is_warned: &mut bool) {
    let mut pause = PAUSE;
    // A panic has closed the last connection.
    session::withdraw(state, renew);
    loop {
        let begun = Instant::now();
        if let Err(reason) = listen_once(state, lane, renew, from, is_warned).await {
            tracing::debug!(reason, "the listening connection is lost");
        }
        session::withdraw(state, renew);
        // The polls continue while there is no connection.
        state.wakeups.work();
        if begun.elapsed() > BEAT {
            pause = PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn listen_once(
    state: &Arc<State>,
    lane: &Arc<Lane>,
    renew: &Arc<Lane>,
    from: Uuid,
    is_warned: &mut bool,
) -> Result<(), String> {
    let (payloads, mut received) = mpsc::unbounded_channel();
    let notified = move |payload: String| drop(payloads.send(payload));
    let connection = state.database.open_with(Use::Listening, notified).await.map_err(|error| error.to_string())?;
    // The name of the schema consists of letters, digits and `_`.
    let listen = format!("LISTEN {}", channel(state));
    connection.client.batch_execute(&listen).await.map_err(|error| Fault::from(error).reason())?;
    // Notifications from before this moment did not arrive.
    state.wakeups.work();
    state.wakeups.changed_where(|_| true);
    state.sessions.other_may_have_joined();
    let probe = json!({ "from": from.to_string(), "work": false, "changed": [] }).to_string();
    send_probe(state, lane, &probe).await?;
    // Until the probe arrives, this process polls often.
    let mut poll = every(POLL_ALONE);
    let mut hears = false;
    let (mut poll_watches, mut beat) = (every(POLL_WATCHES), every(BEAT));
    let (mut nodes, mut lock_again) = (state.sessions.follow(), every(LOCK_AGAIN));
    let mut is_locked = false;
    let too_late = tokio::time::sleep(ANSWER);
    tokio::pin!(too_late);
    loop {
        tokio::select! {
            payload = received.recv() => match payload {
                Some(payload) if payload == probe => {
                    (poll, hears) = (every(POLL), true);
                    is_locked = lock_nodes(state, renew, &connection).await?;
                }
                Some(payload) => tell(state, &payload, from),
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
            _ = poll.tick() => {
                state.wakeups.work();
                if !hears {
                    state.wakeups.changed_where(|_| true);
                }
            }
            // A connection that hears is a session of this process.
            Ok(()) = nodes.changed(), if hears => is_locked = lock_nodes(state, renew, &connection).await?,
            _ = lock_again.tick(), if hears && !is_locked => {
                is_locked = lock_nodes(state, renew, &connection).await?;
            }
            _ = poll_watches.tick() => {
                state.wakeups.changed_where(|_| true);
                state.sessions.other_may_have_joined();
                tokio::spawn(observe_schema(state.clone(), lane.clone()));
            }
            _ = beat.tick() => answers(&connection).await?,
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
    let locked = state.sessions.lock(connection).await.map_err(|fault| fault.reason())?;
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

/// Checks that the connection still answers: one that is half open hears nothing, and reports nothing. The statement is
/// not prepared, so that it succeeds behind any pooler.
async fn answers(connection: &Connection) -> Result<(), String> {
    let answer = tokio::time::timeout(ANSWER, connection.client.batch_execute("SELECT 1")).await;
    let answer = answer.map_err(|_| "it does not answer".to_owned())?;
    answer.map_err(|error| Fault::from(error).reason())
}

/// Passes a notification on within this process. One that cannot be read, of a later version, tells of everything.
fn tell(state: &State, payload: &str, from: Uuid) {
    let notice: Value = serde_json::from_str(payload).unwrap_or_default();
    if notice["from"].as_str() == Some(&from.to_string()) {
        return;
    }
    if notice["outbox"] == Value::Bool(true) {
        state.within.wake();
    }
    if notice["joined"] == Value::Bool(true) {
        state.sessions.other_may_have_joined();
    }
    let Some(changed) = notice["changed"].as_array() else {
        state.wakeups.work();
        state.wakeups.changed_where(|_| true);
        state.sessions.other_may_have_joined();
        return;
    };
    if notice["work"] == Value::Bool(true) {
        state.wakeups.work();
    }
    let changed: std::collections::HashSet<&str> = changed.iter().filter_map(Value::as_str).collect();
    if !changed.is_empty() {
        state.wakeups.changed_where(|id: &InstanceId| changed.contains(id.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notification_has_a_limited_size() {
        let id = |n: usize| InstanceId::new(format!("{}-{n}", "\"".repeat(200))).expect("a good id");
        let notice = Notice { work: true, joined: true, changed: (0..100).map(id).collect() };
        let payloads = payloads(notice, Uuid::nil());
        assert!(payloads.iter().all(|payload| payload.len() < 7900), "{:?}", payloads.iter().map(String::len).max());
        let ids: usize = payloads
            .iter()
            .map(|payload| {
                serde_json::from_str::<Value>(payload).expect("JSON")["changed"].as_array().map_or(0, Vec::len)
            })
            .sum();
        assert_eq!(ids, 100);
    }
}
