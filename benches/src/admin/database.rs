//! A large database, written directly, because running so many instances would take hours.

use std::path::Path;

use duroxide::sqlite::SqliteProvider;
use rusqlite::Connection;

/// An instance with 99 children and 1,000 events, in a database of at least 10,000 instances.
pub(super) const FAMILY: &str = "order-0005000";

/// Makes a database of n instances, at least 10,000: of each 10,000, 250 run, 50 have failed, 2 were cancelled, one is suspended, the others are
/// completed; one in 5,000 has the name `rare`. Half of them have the label `region=eu`, and each has one of n/20 labels
/// `customer`. They were created within the last 30 days. Each fiftieth instance has an activity in flight. Of those that run,
/// one in ten waits for an event, five for an activity, and the others for a timer. Of the failed ones, half have one cause;
/// one in 2,400 has an activity that has failed. Those that wait for a timer are due within the next ten days.
///
/// # Errors
/// An error of SQLite.
pub fn build(path: &Path, n: u64) -> duroxide::Result<()> {
    drop(SqliteProvider::open(path)?);
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN")?;
    let instances = "INSERT INTO duroxide_instances (seq, id, name, version, status, last_event, created_at, updated_at,
            finished_at, start_id, labels)
        WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < ?1), i AS (
            SELECT n, CASE WHEN n % 40 = 0 THEN 'running' WHEN n % 200 = 1 THEN 'failed' WHEN n % 5000 = 2 THEN 'cancelled'
                WHEN n % 10000 = 3 THEN 'suspended' ELSE 'completed' END AS status,
                ?2 - (?1 - n) * (2592000000000 / ?1) AS created FROM n)
        SELECT n, printf('order-%07d', n), iif(n % 10000 IN (0, 5), 'rare', 'flow-' || (n % 20)), '1.0.0', status, 6, created,
            created + 1000000, iif(status IN ('running', 'suspended'), NULL, created + 1000000), randomblob(16),
            json_object('customer', 'c' || (n % (?1 / 20)), 'region', iif(n % 2, 'us', 'eu')) FROM i";
    let now = duroxide::Timestamp::from(std::time::SystemTime::now()).as_micros();
    connection.execute(instances, (i64::try_from(n)?, now))?;
    connection.execute_batch(
        "INSERT INTO duroxide_labels
             SELECT l.key, l.value, i.seq FROM duroxide_instances i, json_each(i.labels) l ORDER BY 1, 2, 3;
         INSERT INTO duroxide_activities (instance, execution, call, scheduled, name, detached, visible_at, owner)
             SELECT seq, 1, 2, 2, 'ship', 0, created_at, 1000000 FROM duroxide_instances WHERE seq % 50 = 0;
         UPDATE duroxide_instances SET waits = CASE WHEN seq % 400 = 0 THEN 'e:Approval' WHEN seq % 80 = 0 THEN 'a:ship'
             ELSE 't' END WHERE status = 'running';
         UPDATE duroxide_instances SET cause = iif(seq % 400 = 1, 'Gateway: status #', 'cause ' || seq % 97)
             WHERE status = 'failed';
         UPDATE duroxide_instances SET cause = 'DUR0001: call # has changed' WHERE status = 'suspended';
         UPDATE duroxide_activities SET cause = 'Gateway: status #', attempt = 2 WHERE instance % 2400 = 0;
         UPDATE duroxide_instances SET parent = 'order-0005000', parent_execution = 1, parent_call = seq - 5000,
             parent_identity = (SELECT start_id FROM duroxide_instances WHERE seq = 5000) WHERE seq BETWEEN 5001 AND 5099;
         INSERT INTO duroxide_events (instance, execution, id, time, decision, format, data, payload)
             WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
             SELECT 5000, 1, n, n * 1000000, n % 2, 1, '{\"activity_completed\":{\"call\":' || n || '}}', randomblob(200) FROM n;
         UPDATE duroxide_instances SET last_event = 1000 WHERE seq = 5000;
         INSERT INTO duroxide_messages (instance, id, lane, execution, call, visible_at, arrived_at, sent, format, data)
             SELECT seq, randomblob(16), 1, 1, 1, now + seq % 14400 * 60000000, created_at, 0, 1, '{}'
             FROM duroxide_instances, (SELECT max(created_at) AS now FROM duroxide_instances) WHERE waits = 't';
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
    )?;
    Ok(())
}
