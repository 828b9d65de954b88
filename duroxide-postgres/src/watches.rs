//! The watches of instances by processes that wait for their changes.
//!
//! ```text
//! process that waits       watch: row, committed ──► read the instance ──► wait
//! process that changes     commit of the change ──► delete the rows of the instance ──► notify their processes
//! ```
//!
//! The row is committed before the instance is read, and the rows are looked for after the change is committed. So either the
//! read shows the change, or the look finds the row. A notification goes to the channel of one process: the others hear
//! nothing of a change for which they do not wait, however many there are.

use std::sync::Arc;
use std::time::Duration;

use duroxide::id::InstanceId;
use duroxide::provider::InstanceRecord;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::connect::{Connection, Shared, Step, step};
use crate::fault::Fault;
use crate::lane::Lane;
use crate::reads;
use crate::state::State;

/// The poll of watched instances, which also renews their rows.
pub(crate) const POLL: Duration = Duration::from_secs(30);
/// The time between two removals of rows whose time is over.
pub(crate) const EXPIRY: Duration = Duration::from_secs(120);
/// The limit of the ids in one notification, in bytes; PostgreSQL allows 8000 in all.
const IDS: usize = 4000;

/// An instance without a row in `live` has finished, or is unknown: the caller does not wait for it. The row lasts for a few
/// polls.
const WATCH: &str = "
    INSERT INTO watches (instance, listener, until)
    SELECT id, $2, now() + interval '2 minutes' FROM live WHERE id = $1
    ON CONFLICT (instance, listener) DO UPDATE SET until = excluded.until";

/// The rows of the sender remain: its waits were told within the process, and may have written their rows again since. The rows
/// are removed in one order, so that two senders do not wait for each other in a circle.
const TELL: &str = "
    WITH told AS (
        DELETE FROM watches w USING unnest($1::text[], $2::integer[]) AS t (id, part)
        WHERE w.instance = t.id AND w.listener <> $3 RETURNING t.part, w.listener, w.instance)
    SELECT pg_notify('duroxide_watch_' || replace(listener::text, '-', ''),
        json_build_object('from', $3::uuid, 'work', false, 'changed', json_agg(instance))::text)
    FROM told GROUP BY listener, part";

/// Rows that another transaction has locked are renewed or removed by it.
const EXPIRE: &str = "
    WITH gone AS (DELETE FROM watches WHERE (instance, listener) IN (
        SELECT instance, listener FROM watches WHERE until < now() LIMIT 1000 FOR UPDATE SKIP LOCKED) RETURNING 1)
    SELECT count(*) = 1000 AS more FROM gone";

/// Returns the channel of a process.
pub(crate) fn channel(listener: Uuid) -> String {
    format!("duroxide_watch_{}", listener.simple())
}

/// Removes the rows whose time is over. A failure leaves them to the next call.
pub(crate) async fn expire(state: Arc<State>, lane: Arc<Lane>) {
    let expire = async |connection: Shared| loop {
        let rows = match connection.query(step!(EXPIRE)).await {
            Err(fault) if fault.is(&SqlState::INSUFFICIENT_PRIVILEGE) => return Ok(()),
            rows => rows?,
        };
        if rows.first().map(|row| row.try_get::<_, bool>("more")).transpose()? != Some(true) {
            return Ok(());
        }
    };
    if let Err(error) = lane.call("remove old watches", expire).await {
        tracing::debug!(%error, schema = state.database.schema, "watches whose time is over remain");
    }
}

/// Watches an instance, and reads it. A process that is not notified polls instead: it only reads.
pub(crate) async fn watch(
    connection: &Connection,
    state: &State,
    id: &InstanceId,
) -> Result<Option<InstanceRecord>, Fault> {
    if state.is_notified() {
        // One round trip, but two transactions: the second one sees all that is committed after the first.
        let steps = [step!(WATCH, id.as_str(), state.listener), reads::watched_step(id)];
        match connection.run(&steps).await {
            Ok(answers) => return reads::watched(answers.last().map(Vec::as_slice).unwrap_or_default()),
            Err(fault) if fault.is(&SqlState::INSUFFICIENT_PRIVILEGE) => state.watch_was_refused(),
            Err(fault) => return Err(fault),
        }
    }
    reads::watched(&connection.query(reads::watched_step(id)).await?)
}

/// Returns the statement that tells the processes which watch one of these instances.
pub(crate) fn tell<'a>(mut changed: Vec<InstanceId>, from: Uuid) -> Step<'a> {
    changed.sort();
    changed.dedup();
    let parts = parts(&changed);
    let ids: Vec<String> = changed.iter().map(ToString::to_string).collect();
    step!(TELL, ids, parts, from)
}

/// Returns the number of the notification for each id, so that none is too long.
fn parts(ids: &[InstanceId]) -> Vec<i32> {
    let (mut part, mut bytes) = (0, 0);
    let part_of = |id: &InstanceId| {
        // A character may take six bytes in JSON.
        let size = id.as_str().len() * 6 + 3;
        if bytes + size > IDS && bytes > 0 {
            (part, bytes) = (part + 1, 0);
        }
        bytes += size;
        part
    };
    ids.iter().map(part_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notification_has_a_limited_number_of_ids() {
        let ids: Vec<_> =
            (0..100).map(|n| InstanceId::new(format!("{}-{n}", "\"".repeat(200))).expect("valid")).collect();
        let parts = parts(&ids);
        for part in 0..=*parts.last().expect("some") {
            let ids = ids.iter().zip(&parts).filter(|(_, of)| **of == part);
            let bytes: usize = ids.map(|(id, _)| serde_json::json!(id.as_str()).to_string().len() + 1).sum();
            assert!((1..7500).contains(&bytes), "part {part}: {bytes}");
        }
        assert_eq!(parts.len(), 100);
    }
}
