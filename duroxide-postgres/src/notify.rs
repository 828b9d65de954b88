//! Sends notifications to other processes, by NOTIFY. They listen by LISTEN ([`listen`](crate::listen)).
//!
//! A notification is sent after the transaction that it tells of, by a statement of its own: within that transaction, it
//! would hold a lock of the whole database server until the transaction is flushed. It may be lost, if the process dies in
//! between or a connection is lost.
//!
//! All processes listen to one channel of the schema, for work, and each to one of its own, for the changes of instances that
//! it watches ([`watches`]). Notices that come while one is being sent are merged. A notification names the nodes that its
//! work concerns ([`work`](crate::work)). After a while the sender looks whether work without an owner was taken, and tells
//! further nodes of it otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use crate::again::has_panicked;
use crate::connect::{Shared, step};
use crate::fault::Fault;
use crate::lane::Lane;
use crate::state::{Notice, State};
use crate::watches;
use crate::work::{Queue, Told, Untaken};

/// The pause after a notification, which limits them to 200 per second and process.
const PAUSE: Duration = Duration::from_millis(5);
/// The time in which a node that was told of work takes it, usually.
const TAKEN: Duration = Duration::from_millis(100);

/// Returns the channel of a schema.
pub(crate) fn channel(state: &State) -> String {
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
    let mut untaken = Untaken::default();
    let mut look_at: Option<Instant> = None;
    loop {
        let notice = tokio::select! {
            notice = notices.recv() => match notice {
                Some(notice) => Some(notice),
                None => return,
            },
            () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => None,
        };
        let (told, changed) = match notice {
            Some(mut notice) => {
                while let Ok(more) = notices.try_recv() {
                    notice.work.extend(more.work);
                    notice.changed.extend(more.changed);
                }
                let members = state.code.last_members();
                (untaken.tell(notice.work, members.as_ref(), &state.sessions.nodes()), notice.changed)
            }
            None => {
                look_at = None;
                let waiting = waiting(state, lane, &untaken).await;
                (untaken.tell_more(&waiting, state.code.last_members().as_ref()), Vec::new())
            }
        };
        look_at = look_at.or_else(|| Some(Instant::now() + TAKEN)).filter(|_| !untaken.is_empty());
        let mut steps = Vec::new();
        if !told.is_none() {
            steps.push(step!("SELECT pg_notify($1, $2)", channel(state), payload(&told, from)));
        }
        if !changed.is_empty() {
            steps.push(watches::tell(changed, from));
        }
        if steps.is_empty() {
            continue;
        }
        let sent = lane.call("notify other processes", async move |connection: Shared| connection.run(&steps).await);
        if let Err(error) = sent.await {
            tracing::warn!(%error, "other processes learn of changes by their next look");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The longest time of a look for work that was not taken.
const LOOK: Duration = Duration::from_secs(1);

/// Finds the queues that have items which are due. An empty tag stands for none.
const WAITING: &str = "
    SELECT t.n FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (name, version, n) CROSS JOIN LATERAL (
        (SELECT 1 FROM ready r WHERE r.name = t.name AND r.version = t.version AND r.ready_at <= $5::bigint
             AND (r.crashes < 3 OR r.suspect) LIMIT 1)
        UNION ALL
        (SELECT 1 FROM ready r WHERE r.name = t.name AND r.version = t.version AND r.ready_at <= $5::bigint
             AND r.crashes >= 3 AND NOT r.suspect LIMIT 1)) r
    UNION ALL
    SELECT -t.n FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS t (name, tag, n) CROSS JOIN LATERAL (
        (SELECT 1 FROM activities a WHERE a.name = t.name AND coalesce(a.tag, '') = t.tag AND a.ready_at <= $5::bigint
             AND a.owner IS NULL AND NOT a.parked AND (a.crashes < 3 OR a.suspect) LIMIT 1)
        UNION ALL
        (SELECT 1 FROM activities a WHERE a.name = t.name AND coalesce(a.tag, '') = t.tag AND a.ready_at <= $5::bigint
             AND a.owner IS NULL AND NOT a.parked AND a.crashes >= 3 AND NOT a.suspect LIMIT 1)) a";

/// Returns the queues whose work was not taken. If they cannot be read, the pulses of the nodes find that work.
async fn waiting(state: &State, lane: &Lane, untaken: &Untaken) -> BTreeSet<Queue> {
    let (mut instances, mut activities) = (Vec::new(), Vec::new());
    for queue in untaken.queues() {
        match queue {
            Queue::Instances(name, version) => {
                instances.push((name.clone(), version.clone().unwrap_or_default(), queue))
            }
            Queue::Activities(name, tag) => activities.push((name.clone(), tag.clone().unwrap_or_default(), queue)),
        }
    }
    let names: Vec<String> = instances.iter().map(|(name, ..)| name.clone()).collect();
    let versions: Vec<String> = instances.iter().map(|(_, version, _)| version.clone()).collect();
    let of_activities: Vec<String> = activities.iter().map(|(name, ..)| name.clone()).collect();
    let tags: Vec<String> = activities.iter().map(|(_, tag, _)| tag.clone()).collect();
    let due = state.due();
    let find = async move |connection: Shared| {
        let rows = connection.query(step!(WAITING, names, versions, of_activities, tags, due)).await?;
        rows.iter().map(|row| Ok(row.try_get::<_, i64>("n")?)).collect::<Result<Vec<_>, Fault>>()
    };
    // Notices wait in the meantime.
    let found = timeout(LOOK, lane.call("look for work that was not taken", find)).await;
    let found = found.map(Result::unwrap_or_default).unwrap_or_default();
    let place = |n: i64| usize::try_from(n.unsigned_abs()).ok()?.checked_sub(1);
    let queue = |n: i64| {
        let queue = if n > 0 { instances.get(place(n)?)?.2 } else { activities.get(place(n)?)?.2 };
        Some(queue.clone())
    };
    found.into_iter().filter_map(queue).collect()
}

/// Returns the payload of a notification of work.
fn payload(told: &Told, from: Uuid) -> String {
    let mut payload = json!({ "from": from.to_string(), "work": true, "changed": [] });
    if let Told::Nodes(nodes) = told {
        payload["to"] = nodes.iter().map(|epoch| epoch.0).collect();
    }
    payload.to_string()
}
