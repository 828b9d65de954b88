//! Many requests for one instance that is locked.

use std::sync::LazyLock;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::*;
use duroxide::{InstanceId, RuntimeOptions, Timestamp};
use futures_util::future::join_all;
use support::postgres::Cluster;
use support::schema::Schema;
use tokio::sync::{Notify, watch};

use crate::{PgNumber, pg_chain, pg_sum, process, schema};

const REQUESTS: usize = 1000;

fn send(name: &str, n: usize) -> Vec<Submission> {
    let (to, time) = (InstanceId::new(name).expect("a good id"), Timestamp::from_micros(2));
    let message = MessageRow::new(format!("\"{n}\""));
    vec![Submission::Send(SendRequest { to, message, lease: None, time, resent: false })]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_waited_for_one_lock_are_written_together() {
    let Some(schema) = schema("contention") else { return };
    let provider = schema.connect();
    for name in ["locked", "free"] {
        let new = NewInstance::new(InstanceId::new(name).expect("a good id"), "flow", MessageRow::new("start"));
        let time = Timestamp::from_micros(1);
        let start = StartRequest { new, if_exists: IfExists::Error, lease: None, time, resent: false };
        provider.submit(vec![Submission::Start(start)]).await.expect("submit").remove(0).expect("started");
    }
    let url = support::postgres::server().expect("there is a server");
    let (user, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    user.batch_execute(&schema.within("BEGIN; SELECT 1 FROM live WHERE id = 'locked' FOR UPDATE")).await.expect("lock");
    let requests = join_all((0..REQUESTS).map(|n| provider.submit(send("locked", n))));
    tokio::pin!(requests);
    // The requests are put aside in their order, so all of them wait once the last one is answered.
    tokio::select! {
        biased;
        _ = &mut requests => panic!("the instance is locked"),
        last = async { provider.submit(send("free", 0)).await } => last.expect("submit").remove(0).map(drop).expect("sent"),
    }
    user.batch_execute("COMMIT").await.expect("commit");
    for sent in requests.await {
        sent.expect("submit").remove(0).expect("sent");
    }
    let count = "SELECT count(DISTINCT xmin::text)::integer, count(*)::integer FROM messages";
    let row = user.query_one(count, &[]).await.expect("query");
    let (transactions, messages): (i32, i32) = (row.get(0), row.get(1));
    assert_eq!(messages, i32::try_from(REQUESTS).expect("small") + 3);
    assert!(transactions < 20, "{transactions} transactions");
}

static STARTED: Notify = Notify::const_new();
static GATE: Notify = Notify::const_new();

/// Ends when the test lets it.
#[activity]
async fn pg_gated() -> duroxide::Result<u32> {
    STARTED.notify_one();
    GATE.notified().await;
    Ok(1)
}

#[orchestration]
async fn pg_held(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(pg_gated::call(&ctx).await?)
}

/// The instances that complete while another one is locked.
const OTHERS: u32 = 60;

/// Returns the number of statements that waited for a lock until their time was over, on the connections with this use.
fn timeouts(cluster: &Cluster, usage: &str) -> usize {
    let is_timeout = |line: &&str| line.contains("lock timeout") && line.contains(usage);
    cluster.log().lines().filter(is_timeout).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_instance_delays_others_by_one_lock_wait() {
    // A server of its own, whose log tells of the waits of this test only.
    let Some(cluster) = Cluster::start(&[("log_line_prefix", "'%a '")]) else { return };
    let schema = Schema::new(&cluster.url(), "held");
    let runtime = process(schema.connect()).start().await.expect("start");
    let (client, elsewhere) = (runtime.client(), Client::new(schema.connect()));
    let turn = pg_held::start(&client, "turn").await.expect("start");
    let event = pg_sum::start(&client, "event", 1).await.expect("start");
    STARTED.notified().await;
    let (user, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    let lock = "BEGIN; SELECT 1 FROM live WHERE id IN ('turn', 'event') FOR UPDATE";
    user.batch_execute(&schema.within(lock)).await.expect("lock");
    GATE.notify_one();
    let raise = event.raise(PgNumber(1)).into_future();
    let others = async {
        for n in 0..OTHERS {
            for client in [&client, &elsewhere] {
                let id = format!("{n}-{}", std::ptr::eq(client, &elsewhere));
                pg_chain::start(client, id, 2).await.expect("start").result().await.expect("completed");
            }
        }
    };
    tokio::pin!(raise);
    tokio::select! {
        biased;
        _ = &mut raise => panic!("the instance is locked"),
        () = others => {}
    }
    assert_eq!(turn.status().await.expect("status").status, InstanceStatus::Running);
    // The turn has waited on the connection that is shared, once; all other attempts were made on that which waits.
    assert!(timeouts(&cluster, "duroxide hot") <= 1, "{}", timeouts(&cluster, "duroxide hot"));
    user.batch_execute("COMMIT").await.expect("commit");
    raise.await.expect("raise");
    assert_eq!(event.result().await.expect("completed"), 1);
    assert_eq!(turn.result().await.expect("completed"), 1);
    runtime.shutdown().await.expect("shutdown");
}

/// The number of attempts of [`pg_crowd_member`] that have begun, and the crowd that may end.
static MEMBERS: LazyLock<watch::Sender<u32>> = LazyLock::new(|| watch::Sender::new(0));
static RELEASED: LazyLock<watch::Sender<u32>> = LazyLock::new(|| watch::Sender::new(0));

/// Ends at the moment at which all activities of this crowd end.
#[activity]
async fn pg_crowd_member(crowd: u32) -> duroxide::Result<u32> {
    MEMBERS.send_modify(|members| *members += 1);
    RELEASED.subscribe().wait_for(|released| *released >= crowd).await?;
    Ok(crowd)
}

#[orchestration]
async fn pg_crowd(ctx: OrchestrationContext, crowd: u32) -> duroxide::Result<u32> {
    Ok(pg_crowd_member::call(&ctx, crowd).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_one_moment_do_not_wait_for_a_locked_instance() {
    let Some(schema) = schema("crowd") else { return };
    let url = support::postgres::server().expect("there is a server");
    let (user, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    // The outcomes are received by live copies in memory; without copies, they are stored as messages.
    for (crowd, copies) in [(1, 100), (2, 0)] {
        let options = RuntimeOptions::new().max_activities(100).max_idle_instances(copies);
        let runtime = process(schema.connect()).options(options).start().await.expect("start");
        let client = runtime.client();
        let starts = (0..=50).map(|n| pg_crowd::start(&client, format!("{crowd}-{n:02}"), crowd).into_future());
        let handles: Vec<_> = join_all(starts).await.into_iter().map(|start| start.expect("start")).collect();
        MEMBERS.subscribe().wait_for(|members| *members == 51 * crowd).await.expect("the sender is static");
        let (locked, others) = handles.split_at(1);
        let lock = format!("BEGIN; SELECT 1 FROM live WHERE id = '{crowd}-00' FOR UPDATE");
        user.batch_execute(&schema.within(&lock)).await.expect("lock");
        RELEASED.send_replace(crowd);
        let results = join_all(others.iter().map(|other| other.result()));
        for result in tokio::time::timeout(Duration::from_secs(60), results).await.expect("no other one waits") {
            assert_eq!(result.expect("completed"), crowd);
        }
        assert_eq!(locked[0].status().await.expect("status").status, InstanceStatus::Running);
        user.batch_execute("COMMIT").await.expect("commit");
        assert_eq!(locked[0].result().await.expect("completed"), crowd);
        runtime.shutdown().await.expect("shutdown");
    }
}
