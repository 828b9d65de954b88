//! A large database, written directly, because running so many instances would take hours.

use tokio_postgres::Client;

use crate::server::SCHEMA;

/// The names of the orchestrations are `flow-0` and so on.
pub(super) const NAMES: u32 = 20;

/// Adds n finished instances and n that wait for a node, a tenth of which are not due. Half of them have the label
/// `region=eu`, and one of a hundred finished ones has failed. They were made at intervals of 10 ms. The schema must exist and
/// be empty.
///
/// # Errors
/// An error of the database.
pub async fn build(client: &Client, n: u64) -> duroxide::Result<()> {
    let sql = format!(
        "SET search_path TO {SCHEMA}; SET synchronous_commit = off;
         INSERT INTO instances (seq, id, identity, name, version, status, last_event, created_at, updated_at, finished_at,
             labels)
         SELECT n, 'done-' || n, gen_random_uuid(), 'flow-' || n % {NAMES}, '1.0.0',
             CASE WHEN n % 100 = 1 THEN 'failed' ELSE 'completed' END, 6, n, n + 1, n + 1,
             CASE WHEN n % 2 = 0 THEN '{{\"region\":\"eu\"}}' END
         FROM generate_series(1, {n}::bigint) AS s (n);
         INSERT INTO events (instance, execution, last, first, heads, body)
         SELECT n, 1, 6, 1, '[]', convert_to(repeat('x', 400), 'UTF8') FROM generate_series(1, {n}::bigint) AS s (n);
         INSERT INTO instances (seq, id, identity, name, version, created_at, updated_at, labels)
         SELECT {n} + n, 'wait-' || n, gen_random_uuid(), 'flow-' || n % {NAMES}, '1.0.0', n * 10000, n * 10000,
             CASE WHEN n % 2 = 0 THEN '{{\"region\":\"eu\"}}' END
         FROM generate_series(1, {n}::bigint) AS s (n);
         INSERT INTO live (seq, id, identity, name, version, execution, last_event, claim, arrivals, stored, crashes, alone,
             suspect, suspended, updated_at)
         SELECT seq, id, identity, name, version, 1, 0, 0, 1, 1, 0, false, false, false, updated_at
         FROM instances WHERE status = 'running';
         INSERT INTO messages (instance, id, arrival, number, lane, arrived_at, visible_at, sent, format, data)
         SELECT seq, identity, 1, CASE WHEN seq % 10 <> 0 THEN 1 END, 0, updated_at,
             CASE WHEN seq % 10 = 0 THEN 4000000000000000 END, false, 1, '{{}}'
         FROM live;
         INSERT INTO ready (seq, name, version, ready_at, crashes, suspect, rejected)
         SELECT seq, name, version, CASE WHEN seq % 10 = 0 THEN 4000000000000000 ELSE updated_at - 4611686018427387904 END,
             0, false, false
         FROM live;
         INSERT INTO labels (instance, name, value) SELECT seq, 'region', 'eu' FROM instances WHERE labels IS NOT NULL;
         SELECT setval('arrivals', 2 * {n}); ANALYZE"
    );
    client.batch_execute(&sql).await?;
    // VACUUM cannot be part of a transaction, which several statements in one request are.
    client.batch_execute("VACUUM").await?;
    Ok(())
}
