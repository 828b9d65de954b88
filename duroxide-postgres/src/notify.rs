//! Sends notifications to other processes, by NOTIFY. They listen by LISTEN ([`listen`](crate::listen)).
//!
//! A notification is sent after the transaction that it tells of, by a statement of its own: within that transaction, it
//! would hold a lock of the whole database server until the transaction is flushed. It may be lost, if the process dies in
//! between or a connection is lost.
//!
//! All processes listen to one channel of the schema. Notices that come while one is being sent are merged.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::again::has_panicked;
use crate::connect::step;
use crate::lane::Lane;
use crate::state::{Notice, State};

/// The pause after a notification, which limits them to 200 per second and process.
const PAUSE: Duration = Duration::from_millis(5);
/// The limit of the ids in one notification, in bytes; PostgreSQL allows 8000 in all.
const IDS: usize = 4000;

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
    while let Some(mut notice) = notices.recv().await {
        while let Ok(more) = notices.try_recv() {
            notice.work |= more.work;
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
        json!({ "from": from.to_string(), "work": notice.work && n == 0, "changed": ids }).to_string()
    };
    parts.into_iter().enumerate().map(payload).collect()
}

#[cfg(test)]
mod tests {
    use duroxide::id::InstanceId;
    use serde_json::Value;

    use super::*;

    #[test]
    fn notification_has_a_limited_size() {
        let id = |n: usize| InstanceId::new(format!("{}-{n}", "\"".repeat(200))).expect("a good id");
        let notice = Notice { work: true, changed: (0..100).map(id).collect() };
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
