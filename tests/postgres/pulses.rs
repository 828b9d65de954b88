//! Work whose notification was lost.

use std::time::Duration;

use duroxide::provider::{Handlers, NodeInfo, Provider};
use duroxide_postgres::PostgresProvider;
use futures_util::future::join_all;
use support::postgres::Cluster;
use support::schema::Schema;

use crate::together::info;

/// Work for the node, or for one like it, written without a notification. A paused instance, an activity after a failure and
/// a delayed start wait in their queue until a time.
const WORK: [(&str, &str); 8] = [
    ("mail", "INSERT INTO mail (owner, instance, upto) SELECT epoch, 1, 1 FROM nodes"),
    (
        "cancelled",
        "INSERT INTO cancellations (epoch, identity, execution, call, instance) SELECT epoch, id, 1, 2, 'i' FROM nodes",
    ),
    (
        "end",
        "INSERT INTO live (seq, id, identity, name, execution, last_event, claim, arrivals, stored, crashes, alone, suspect,
             suspended, updated_at)
         SELECT 1, 'i', id, 'other', 1, 0, 0, 1, 1, 0, false, false, false, 1 FROM nodes;
         INSERT INTO messages (instance, id, arrival, number, lane, arrived_at, sent, format, data)
         SELECT 1, id, 1, 1, 3, 1, false, 1, '' FROM nodes",
    ),
    ("started", "INSERT INTO ready VALUES (1, 'flow', '', 5 - (1::bigint << 62), 0, false, false)"),
    ("pinned", "INSERT INTO ready VALUES (1, 'flow', '1.0.0', 5 - (1::bigint << 62), 4, false, false)"),
    (
        "due",
        "INSERT INTO ready SELECT 1, 'flow', '', (extract(epoch FROM now()) * 1000000)::bigint + 7000000, 0, false, false",
    ),
    (
        "activity",
        "INSERT INTO activities (instance, execution, call, scheduled, name, tag, detached, attempt, ready_at, claim, crashes,
             alone, suspect, parked)
         VALUES (1, 1, 1, 1, 'work', 'served', false, 1, 5, 0, 0, false, false, false)",
    ),
    (
        "quarantined",
        "INSERT INTO activities (instance, execution, call, scheduled, name, detached, attempt, ready_at, claim, crashes,
             alone, suspect, parked)
         VALUES (1, 1, 1, 1, 'work', false, 1, 5, 0, 4, false, false, false)",
    ),
];

/// Work that the node cannot do, or not yet.
const NOT_FOR_IT: &str = "
    INSERT INTO mail (owner, instance, upto) VALUES (7, 1, 1);
    INSERT INTO ready VALUES (2, 'other', '', 5 - (1::bigint << 62), 0, false, false),
        (3, 'flow', '2.0.0', 5 - (1::bigint << 62), 0, false, false), (4, 'flow', '', 1::bigint << 60, 0, false, false);
    INSERT INTO activities (instance, execution, call, scheduled, name, tag, detached, attempt, ready_at, owner, claim, crashes,
        alone, suspect, parked)
    SELECT 2, 1, 10 + n, 1, 'work', 'elsewhere', false, 1, 5, NULL, 0, 0, false, false, false FROM generate_series(1, 5000) AS n;
    INSERT INTO activities (instance, execution, call, scheduled, name, tag, detached, attempt, ready_at, owner, claim, crashes,
        alone, suspect, parked)
    VALUES (2, 1, 2, 1, 'work', NULL, false, 1, 5, 7, 0, 0, false, false, false),
        (2, 1, 3, 1, 'work', NULL, false, 1, 5, NULL, 0, 0, false, false, true),
        (2, 1, 4, 1, 'other', NULL, false, 1, 5, NULL, 0, 0, false, false, false)";

/// A pulse and its answer take at most ten seconds; without them, the poll of watched instances comes after thirty.
const BEFORE_THE_POLL: Duration = Duration::from_secs(22);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_listening_connection_is_replaced() {
    let Some((proxy, url)) = crate::faults::proxy() else { return };
    let Some(schema) = crate::schema("half_open") else { return };
    let runtime = crate::process(schema.connect()).start().await.expect("start");
    let here = runtime.client();
    // Only the connection that listens leads through the proxy.
    let listens = PostgresProvider::connect_with(schema.options().listen_url(url)).await.expect("connect");
    let elsewhere = duroxide::Client::new(listens.clone());
    let mut results = Vec::new();
    for id in ["before", "after"] {
        crate::pg_sum::start(&here, id, 1).await.expect("start");
        let waits = crate::pg_sum::handle(&elsewhere, id);
        results.push(tokio::spawn(async move { waits.result().await }));
    }
    crate::pg_sum::handle(&here, "before").raise(crate::PgNumber(1)).await.expect("raise");
    let [before, after] = results.try_into().expect("there are two");
    let before = tokio::time::timeout(BEFORE_THE_POLL, before).await.expect("it is notified");
    assert_eq!(before.expect("no panic").expect("completed"), 1);
    proxy.silence_connections();
    crate::pg_sum::handle(&here, "after").raise(crate::PgNumber(1)).await.expect("raise");
    let after = tokio::time::timeout(BEFORE_THE_POLL, after).await.expect("the connection is replaced");
    assert_eq!(after.expect("no panic").expect("completed"), 1);
    runtime.shutdown().await.expect("shutdown");
}

/// The time of a pulse, with room for a busy machine.
const FOUND: Duration = Duration::from_secs(60);

fn worker() -> NodeInfo {
    let (activities, tags) = (vec!["work".to_owned()], Some(vec!["served".to_owned()]));
    NodeInfo { handlers: Handlers { activities, tags, ..info().handlers }, ..info() }
}

/// All that was read of the activities.
const READ: &str = "
    SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'activities')::bigint
        + (SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_user_tables WHERE relname = 'activities')::bigint";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_notification_costs_one_pulse() {
    // A server of its own, which has room for the connections.
    let Some(cluster) = Cluster::start(&[]) else { return };
    let find = async |(name, work): &(&str, &str)| {
        let schema = Schema::new(&cluster.url(), name);
        let provider = schema.connect();
        provider.join(&worker()).await.expect("join");
        let mut signals = provider.wakeups().subscribe();
        schema.execute(NOT_FOR_IT);
        // The join and the beginning of listening are signals, too: none comes during a pulse and more.
        while tokio::time::timeout(Duration::from_secs(7), signals.changed()).await.is_ok() {}
        schema.execute(work);
        let found = tokio::time::timeout(FOUND, signals.changed()).await;
        assert!(found.is_ok(), "{name}");
    };
    join_all(WORK.iter().map(find)).await;
    let (client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    // The counters of a session are complete once it has ended.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'duroxide%'";
    while client.query_one(open, &[]).await.expect("query").get::<_, i64>(0) > 0 {}
    let read: i64 = client.query_one(READ, &[]).await.expect("query").get(0);
    assert!(read < 1_000, "the pulses have read {read} entries, and so the activities for other nodes");
}
