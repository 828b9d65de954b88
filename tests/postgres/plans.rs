//! The plans of the statements that run for every step.

use duroxide::prelude::*;
use futures_util::future::join_all;
use support::postgres::Cluster;
use support::schema::Schema;

use crate::{PgNumber, pg_chain, pg_sum, process};

/// The number of instances. Each of them needs several requests of every kind.
const INSTANCES: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_scan_no_table() {
    // A server of its own, whose counters no other test changes.
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "plans");
    let runtime = process(schema.connect()).start().await.expect("start");
    let elsewhere = Client::new(schema.connect());
    let run = async |n: u32| {
        let client = if n.is_multiple_of(2) { elsewhere.clone() } else { runtime.client() };
        let chain = pg_chain::start(&client, format!("chain-{n}"), 2).label("n", n.to_string()).await.expect("start");
        let sum = pg_sum::start(&runtime.client(), format!("sum-{n}"), 2).await.expect("start");
        pg_sum::handle(&client, format!("sum-{n}")).raise(PgNumber(n)).await.expect("raise");
        sum.raise(PgNumber(n)).await.expect("raise");
        assert_eq!(sum.result().await.expect("completed"), 2 * n);
        assert_eq!(chain.result().await.expect("completed"), 2);
        chain.history().await.expect("history").len()
    };
    let lengths = join_all((0..INSTANCES).map(run)).await;
    assert!(lengths.iter().all(|length| *length == 6));
    runtime.shutdown().await.expect("shutdown");
    drop(elsewhere);

    // The counters of a session are complete once it has ended.
    let (client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'duroxide%'";
    while client.query_one(open, &[]).await.expect("query").get::<_, i64>(0) > 0 {}
    let scans = "SELECT relname::text, seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables
        WHERE relname NOT IN ('nodes', 'meta') ORDER BY relname";
    let counters = client.query(scans, &[]).await.expect("query");
    assert!(counters.len() > 8);
    let counters: Vec<(String, i64, i64)> = counters.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    // A join and a take-over scan some tables, and so does the migration.
    let scanned: Vec<_> = counters.iter().filter(|(_, sequential, _)| *sequential > i64::from(INSTANCES) / 4).collect();
    assert!(scanned.is_empty(), "scanned without an index: {scanned:?}");
    let is_used = |table: &str| counters.iter().any(|(name, _, by_index)| name == table && *by_index > 100);
    assert!(is_used("live") && is_used("messages") && is_used("events"), "{counters:?}");
}
