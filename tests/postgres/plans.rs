//! The plans of the statements that run for every step.

use duroxide::prelude::*;
use duroxide::provider::{Load, Provider, Want};
use support::postgres::Cluster;
use support::schema::Schema;

use crate::together::{at, info, send, start};
use crate::{PgNumber, pg_chain, pg_sum, process};

/// The number of instances. Each of them needs several requests of every kind.
const INSTANCES: u32 = 200;

/// The number of unread messages of one instance, and of activities without a node.
const MANY: usize = 300;
/// The most rows that a statement may read for each that it wants.
const IN_VAIN: usize = 30;

/// The tables were empty when the plans were made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_made_on_empty_tables_read_no_row_in_vain() {
    let explains = [
        ("session_preload_libraries", "'auto_explain'"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_timing", "off"),
    ];
    let Some(cluster) = Cluster::start(&explains) else { return };
    let schema = Schema::new(&cluster.url(), "vain");
    let runtime = process(schema.connect()).tags(["served"]).start().await.expect("start");
    let elsewhere = Client::new(schema.connect());
    let waits = pg_sum::start(&runtime.client(), "waits", 10_000).await.expect("start");
    let served = pg_chain::start(&elsewhere, "first", 1).await.expect("start");
    served.result().await.expect("completed");
    // Held by their instance, which waits for another event.
    let unread = async |n: usize| {
        let client = if n.is_multiple_of(2) { elsewhere.clone() } else { runtime.client() };
        let handle = pg_sum::handle(&client, "waits");
        handle.raise_named("unread", &n).await.expect("raise");
    };
    let fans = pg_fan::start(&elsewhere, "fans", MANY as u32).await.expect("start");
    futures_util::future::join_all((0..MANY).map(unread)).await;
    futures_util::future::join_all((0..20).map(unread)).await;
    for n in 0..20 {
        waits.raise(PgNumber(n)).await.expect("raise");
        pg_chain::start(&elsewhere, format!("chain-{n}"), 2).await.expect("start").result().await.expect("completed");
    }
    load_the_last_message(&schema.connect()).await;
    fans.cancel("enough").await.expect("cancel");
    assert!(fans.result().await.is_err());
    runtime.shutdown().await.expect("shutdown");
    drop(elsewhere);
    let log = cluster.log();
    assert!(log.contains("Index Cond"), "the plans are in the log");
    let mut wrong = std::collections::BTreeSet::new();
    for entry in log.split("LOG:  duration") {
        let (statement, plan) = entry.split_once("(cost=").unwrap_or((entry, ""));
        let statement = || statement.split_whitespace().skip(4).take(60).collect::<Vec<_>>().join(" ");
        for line in plan.lines().map(str::trim) {
            // Of a join by a part of its conditions, or, in a load, of a scan. Joins and take-overs of nodes scan.
            let by_scan =
                line.strip_prefix("Rows Removed by Filter: ").filter(|_| entry.contains("AS t (id, heard, n)"));
            let removed = line.strip_prefix("Rows Removed by Join Filter: ").or(by_scan);
            let removed = removed.and_then(|rows| rows.parse::<usize>().ok());
            // Such a scan reads the whole index.
            let lacks_instance = line.starts_with("Index Cond: ((execution = t.");
            if removed.is_some_and(|rows| rows > IN_VAIN) || lacks_instance {
                wrong.insert(format!("{line}: {}", statement()));
            }
        }
    }
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Requests the last message of an instance, as a node does that has received the others.
async fn load_the_last_message(provider: &dyn Provider) {
    let lease = provider.join(&info()).await.expect("join");
    let (new, submission) = start("loaded", Some(lease));
    provider.submit(vec![submission]).await.expect("submit").remove(0).expect("started");
    let sent = provider.submit((0..MANY).map(|n| send("loaded", n)).collect()).await.expect("submit");
    let last = sent.last().and_then(|sent| sent.as_ref().ok()?.number).expect("the instance has an owner");
    let load = vec![Load { instance: new.instance, heard: Some(last - 1) }];
    let loaded = provider.acquire(&lease, Want { load, ..Want::new(at(3)) }).await.expect("acquire").instances;
    assert_eq!(loaded[0].messages.iter().map(|message| message.number).collect::<Vec<_>>(), [Some(last)]);
    provider.leave(&lease).await.expect("leave");
}

/// An activity that no node serves.
#[activity]
async fn pg_unserved() -> duroxide::Result<()> {
    Ok(())
}

#[orchestration]
async fn pg_fan(ctx: OrchestrationContext, calls: u32) -> duroxide::Result<()> {
    for done in join_all((0..calls).map(|_| pg_unserved::call(&ctx).tag("nowhere"))).await {
        done?;
    }
    Ok(())
}

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
    let lengths = futures_util::future::join_all((0..INSTANCES).map(run)).await;
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
