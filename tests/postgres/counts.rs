//! The cost of an idle node, and of a take-over, by counts. The times are printed, since they differ by machine.

use std::collections::{BTreeMap, HashSet};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use duroxide::RuntimeOptions;
use duroxide::prelude::*;
use duroxide::provider::Provider;
use duroxide_postgres::PostgresProvider;
use futures_util::future::join_all;
use support::postgres::Cluster;
use support::schema::Schema;
use tokio::sync::watch;

use crate::changes::Changes;
use crate::together::{Obstacle, info};
use crate::{PgNumber, pg_sum, process, schema};

/// The seconds for which idle nodes are observed.
const IDLE: &str = "DUROXIDE_IDLE_SECONDS";
const WAITING: u32 = 200;
/// The limit per minute and node: a renewal and two pulses in five seconds are 36. docs/postgres.md has the figures.
const STATEMENTS: f64 = 40.0;

/// Returns the number of statements in a log so far, by the use of their connections.
fn statements(cluster: &Cluster) -> BTreeMap<String, usize> {
    statements_in(&cluster.log())
}

fn statements_in(log: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in log.lines().filter(|line| line.starts_with("duroxide ")) {
        if let Some((usage, _)) = line.split_once(" LOG:  execute").or_else(|| line.split_once(" LOG:  statement")) {
            *counts.entry(usage.trim().to_owned()).or_default() += 1;
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_nodes_send_few_statements() {
    let settings = [("log_statement", "all"), ("log_line_prefix", "'%a '")];
    let Some(cluster) = Cluster::start(&settings) else { return };
    let schema = Schema::new(&cluster.url(), "idle");
    let (first, second) = (process(schema.connect()), process(schema.connect()));
    let nodes = [first.start().await.expect("start"), second.start().await.expect("start")];
    let client = nodes[0].client();
    let start = async |n: u32| pg_sum::start(&client, format!("i-{n}"), 1).await.map(drop);
    for started in join_all((0..WAITING).map(start)).await {
        started.expect("start");
    }
    let seconds = std::env::var(IDLE).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(25);
    let mut renewals = Changes::follow(&cluster.url(), &schema, &["UPDATE OF expires_at ON nodes"]).await;
    // Each node has renewed since the last start.
    renewals.wait_for(4).await;
    let (before, begun) = (statements(&cluster), Instant::now());
    // Two nodes, each of which renews every five seconds.
    renewals.wait_for(seconds * 2 / 5).await;
    let (after, minutes) = (statements(&cluster), begun.elapsed().as_secs_f64() / 60.0);
    let mut total = 0.0;
    for (usage, count) in after {
        let sent = count - before.get(&usage).copied().unwrap_or(0);
        let per_minute = sent as f64 / minutes / 2.0;
        println!("{usage}: {per_minute:.0} statements per minute and node");
        total += per_minute;
    }
    println!("{total:.0} statements per minute and node");
    assert!(total < STATEMENTS, "{total}");
    for node in nodes {
        node.shutdown().await.expect("shutdown");
    }
}

const RESULTS: u32 = 50;
/// The statements that watch them: each writes a row, and reads the instance.
const WATCHES: usize = 2 * RESULTS as usize;

/// Counts the statements of the connection that reads.
fn reads(log: &str) -> usize {
    statements_in(log).get("duroxide reading").copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_in_another_process_are_read_together() {
    let settings = [("log_statement", "all"), ("log_line_prefix", "'%a '")];
    let Some(cluster) = Cluster::start(&settings) else { return };
    let schema = Schema::new(&cluster.url(), "results");
    let runtime = process(schema.connect()).start().await.expect("start");
    let start = async |n: u32| pg_sum::start(&runtime.client(), format!("i-{n}"), 1).await.expect("start");
    let handles = join_all((0..RESULTS).map(start)).await;
    let provider = schema.connect();
    let mut signals = provider.wakeups().subscribe();
    let elsewhere = Client::new(provider);
    // It listens, and its notifications arrive: then it watches all again.
    while tokio::time::timeout(Duration::from_secs(1), signals.changed()).await.is_ok() {}
    let before = statements(&cluster);
    let result = async |n: u32| pg_sum::handle(&elsewhere, format!("i-{n}")).result().await.expect("completed");
    let raise = async {
        // All of them are watched.
        cluster.until_log(|log| reads(log) >= before["duroxide reading"] + WATCHES).await;
        let raise = async |n: usize| handles[n].raise(PgNumber(1)).await.expect("raise");
        join_all((0..handles.len()).map(raise)).await
    };
    let (results, _) = futures_util::future::join(join_all((0..RESULTS).map(result)), raise).await;
    assert_eq!(results, vec![1; RESULTS as usize]);
    // The connection that reads also sends the signals, of which there are fewer the more instances end at once.
    let sent = reads(&cluster.log()) - before["duroxide reading"] - WATCHES;
    // Only the statement for all ends of a signal has a list of ids.
    let is_read = |line: &&str| line.contains("AS t (id) JOIN instances i ON i.id = t.id");
    let together = cluster.log().lines().filter(is_read).count();
    println!("{sent} statements send and read the ends of {RESULTS} instances, {together} of them read several");
    assert!(together > 0 && sent <= RESULTS as usize, "{sent}, {together}");
    runtime.shutdown().await.expect("shutdown");
}

const IN_FLIGHT: u32 = 1000;

/// The attempts that have begun, by input.
static BEGUN: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));
static SEEN: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

/// Never ends on the node that runs it first.
#[activity]
async fn pg_lost_once(n: u32) -> duroxide::Result<u32> {
    let is_first = SEEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(n);
    if is_first {
        BEGUN.send_modify(|begun| *begun += 1);
        std::future::pending::<()>().await;
    }
    Ok(n)
}

#[orchestration]
async fn pg_loses(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    Ok(pg_lost_once::call(&ctx, n).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_instances_in_flight_are_taken_over_at_once() {
    let Some((proxy, url)) = crate::faults::proxy() else { return };
    let Some(schema) = schema("thousand") else { return };
    let options = || RuntimeOptions::new().max_activities(IN_FLIGHT as usize).lease_time(Duration::from_secs(3600));
    let provider = PostgresProvider::connect_with(schema.options_at(&url)).await.expect("connect");
    let dies = process(provider).options(options()).start().await.expect("start");
    let client = Client::new(schema.connect());
    let start = async |n: u32| pg_loses::start(&dies.client(), format!("i-{n}"), n).await.map(drop);
    for started in join_all((0..IN_FLIGHT).map(start)).await {
        started.expect("start");
    }
    BEGUN.subscribe().wait_for(|begun| *begun == IN_FLIGHT as usize).await.expect("the sender is static");
    let other = process(schema.connect()).options(options()).start().await.expect("start");
    proxy.stall();
    let database = Obstacle::connect(&schema).await;
    let ends =
        "UPDATE nodes SET expires_at = 'epoch', suspected_at = 'epoch' WHERE epoch = (SELECT min(epoch) FROM nodes)";
    database.execute(ends).await;
    let observer = schema.connect();
    let begun = Instant::now();
    // A join ends the memberships of dead nodes first.
    observer.join(&info()).await.expect("join");
    let released = begun.elapsed();
    let result = async |n: u32| pg_loses::handle(&client, format!("i-{n}")).result().await.expect("completed");
    let results = tokio::time::timeout(Duration::from_secs(120), join_all((0..IN_FLIGHT).map(result))).await;
    assert_eq!(results.expect("in time"), (0..IN_FLIGHT).collect::<Vec<_>>());
    println!("released after {} ms, completed after {} ms", released.as_millis(), begun.elapsed().as_millis());
    proxy.resume();
    other.shutdown().await.expect("shutdown");
    drop(dies);
}
