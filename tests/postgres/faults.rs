//! Servers that stop and connections that break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use duroxide::id::{CommitId, EventId};
use duroxide::prelude::*;
use duroxide::provider::{
    Admin, Commit, CommitError, Committed, EventRow, Handlers, NodeInfo, NodeReport, Page, Provider, ProviderError,
    Renewal, Turn, Write,
};
use duroxide::{Filter, Payload, RuntimeOptions};
use duroxide_postgres::PostgresProvider;
use futures_util::future::{BoxFuture, join_all};
use support::postgres::Cluster;
use support::proxy::Proxy;
use support::schema::Schema;
use tokio::sync::Notify;

use crate::pairs::gate::{self, Gate};
use crate::together::{at, id, info, start};
use crate::{pg_chain, process};

/// The time in which everything completes; a hang would take forever.
const ENOUGH: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_of_the_server_delays_and_loses_nothing() {
    // A server of its own, with flushed commits: it crashes.
    let Some(cluster) = Cluster::start(&[("fsync", "on")]) else { return };
    let schema = Schema::new(&cluster.url(), "outage");
    let provider = schema.connect();
    // Longer than the outages: a node whose lease expires joins again.
    let options = RuntimeOptions::new().lease_time(Duration::from_secs(60));
    let first = process(provider.clone()).options(options.clone()).start().await.expect("start");
    let second = process(schema.connect()).options(options).start().await.expect("start");
    let before: Vec<_> = provider.nodes().await.expect("nodes").into_iter().map(|node| node.epoch).collect();
    let client = first.client();
    let run = async |n: u32| {
        let handle = pg_chain::start(&client, format!("i-{n}"), 30).await.expect("start");
        handle.result().await.expect("completed")
    };
    let all = join_all((0..20).map(run));
    let restarts = async {
        for _ in 0..2 {
            // Wait for some progress.
            pg_chain::start(&client, format!("probe-{}", duroxide::id::NodeId::new()), 1).await.expect("start");
            tokio::task::block_in_place(|| cluster.restart());
        }
    };
    let (results, ()) = tokio::time::timeout(ENOUGH, async { tokio::join!(all, restarts) }).await.expect("in time");
    assert_eq!(results, vec![30 * 29; 20]);
    let after: Vec<_> = provider.nodes().await.expect("nodes").into_iter().map(|node| node.epoch).collect();
    assert_eq!(before, after, "no node was taken over");
    for n in 0..20 {
        let history = pg_chain::handle(&client, format!("i-{n}")).history().await.expect("history");
        assert_eq!(history.len(), 62, "i-{n}");
    }
    first.shutdown().await.expect("shutdown");
    second.shutdown().await.expect("shutdown");
}

/// Returns a proxy before the server of the tests, and the URL through it.
pub(crate) fn proxy() -> Option<(Proxy, String)> {
    let cluster_url = support::postgres::server()?;
    // A server that is given by a URL may be reached by a socket only.
    let address: SocketAddr = cluster_url.split('@').nth(1)?.split('/').next()?.parse().ok()?;
    let proxy = Proxy::to(address);
    let url = cluster_url.replace(&address.to_string(), &proxy.address().to_string());
    Some((proxy, url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_lose_no_step_and_repeat_none() {
    let Some((proxy, url)) = proxy() else { return };
    let server = support::postgres::server().expect("there is a server");
    let schema = Schema::new(server, "broken");
    let provider = PostgresProvider::connect_with(schema.options_at(&url)).await.expect("connect");
    let runtime = process(provider).start().await.expect("start");
    let client = runtime.client();
    for round in 0..8 {
        let run = async |n: u32| {
            let handle = pg_chain::start(&client, format!("i-{round}-{n}"), 10).await.expect("start");
            handle.result().await.expect("completed")
        };
        let breaks = async {
            for n in 0..4 {
                // In flight or not: a start is on its way while the connections break.
                let start = pg_chain::start(&client, format!("b-{round}-{n}"), 0);
                let (started, ()) = tokio::join!(start.into_future(), async { proxy.drop_connections() });
                started.expect("start");
            }
        };
        let work = async { tokio::join!(join_all((0..10).map(run)), breaks) };
        let (results, ()) = tokio::time::timeout(ENOUGH, work).await.expect("in time");
        assert_eq!(results, vec![90; 10]);
    }
    let observer = Client::new(schema.connect());
    for round in 0..8 {
        for n in 0..10 {
            let history = pg_chain::handle(&observer, format!("i-{round}-{n}")).history().await.expect("history");
            assert_eq!(history.len(), 22, "i-{round}-{n}");
        }
    }
    runtime.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_is_cut_off_is_taken_over_and_joins_again() {
    let Some((proxy, url)) = proxy() else { return };
    let server = support::postgres::server().expect("there is a server");
    let schema = Schema::new(server, "cut_off");
    let options = || RuntimeOptions::new().lease_time(Duration::from_secs(3));
    let provider = PostgresProvider::connect_with(schema.options_at(&url)).await.expect("connect");
    let cut_off = process(provider).options(options()).start().await.expect("start");
    let handle = crate::pg_sum::start(&cut_off.client(), "i", 2).await.expect("start");
    handle.raise(crate::PgNumber(1)).await.expect("raise");
    let survivor = process(schema.connect()).options(options()).start().await.expect("start");
    let elsewhere = crate::pg_sum::handle(&survivor.client(), "i");
    proxy.stall();
    // Stored for the node that is cut off, and read by the one that takes over.
    elsewhere.raise(crate::PgNumber(2)).await.expect("raise");
    let result = tokio::time::timeout(ENOUGH, elsewhere.result()).await.expect("in time");
    assert_eq!(result.expect("completed"), 3);
    proxy.resume();
    let result = tokio::time::timeout(ENOUGH, handle.result()).await.expect("in time");
    assert_eq!(result.expect("completed"), 3);
    let later = pg_chain::start(&cut_off.client(), "later", 3).await.expect("start");
    assert_eq!(tokio::time::timeout(ENOUGH, later.result()).await.expect("in time").expect("completed"), 6);
    cut_off.shutdown().await.expect("shutdown");
    survivor.shutdown().await.expect("shutdown");
}

/// A lease that ends long before the connection is found to be dead.
const SHORT_LEASE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connection_does_not_stop_the_renewals() {
    let Some((proxy, url)) = proxy() else { return };
    let server = support::postgres::server().expect("there is a server");
    let schema = Schema::new(server, "silent");
    let provider = PostgresProvider::connect_with(schema.options_at(&url)).await.expect("connect");
    let info = NodeInfo {
        id: duroxide::id::NodeId::new(),
        name: "test".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers::default(),
        lease_time: SHORT_LEASE,
        details: Default::default(),
    };
    let lease = provider.join(&info).await.expect("join");
    provider.renew(&lease, &NodeReport::default()).await.expect("renew");
    let begun = std::time::Instant::now();
    proxy.silence_connections();
    // As the heartbeat does, which abandons a renewal without an answer.
    while !matches!(
        tokio::time::timeout(SHORT_LEASE / 3, provider.renew(&lease, &NodeReport::default())).await,
        Ok(Ok(Renewal::Held { .. }))
    ) {}
    assert!(begun.elapsed() < SHORT_LEASE, "{:?}", begun.elapsed());
}

/// The longest time in which a request is repeated on another connection, with room for a busy machine.
const REPEATED: Duration = Duration::from_secs(45);
static HELD: Notify = Notify::const_new();
static RELEASED: Notify = Notify::const_new();

/// Ends when the test lets it.
#[activity]
async fn pg_silenced() -> duroxide::Result<u32> {
    HELD.notify_one();
    RELEASED.notified().await;
    Ok(1)
}

#[orchestration]
async fn pg_goes_silent(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(pg_silenced::call(&ctx).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_stop_no_request() {
    let Some((proxy, url)) = proxy() else { return };
    let schema = Schema::new(support::postgres::server().expect("there is a server"), "mute");
    let provider = PostgresProvider::connect_with(schema.options_at(&url)).await.expect("connect");
    let options = RuntimeOptions::new().lease_time(Duration::from_secs(120));
    let runtime = process(provider.clone()).options(options).start().await.expect("start");
    let (client, page, elsewhere) = (runtime.client(), Page::new(10), Client::new(schema.connect()));
    let (filter, held) = (Filter::default(), pg_goes_silent::start(&client, "held").await.expect("start"));
    HELD.notified().await;
    // Each connection is open.
    let summed = crate::pg_sum::start(&client, "sum", 1).await.expect("start");
    held.history().await.expect("history");
    provider.list(&filter, &page).await.expect("list");
    proxy.silence_connections();
    RELEASED.notify_one();
    let all = async {
        tokio::join!(
            async { pg_goes_silent::handle(&elsewhere, "held").result().await },
            async { summed.raise(crate::PgNumber(7)).await },
            async {
                pg_chain::start(&client, "later", 2).await.expect("start");
                pg_chain::handle(&elsewhere, "later").result().await
            },
            async {
                provider
                    .list(&filter, &page)
                    .await
                    .map(|page| page.instances.len())
                    .map_err(|error| error.is_retryable())
            },
        )
    };
    let (held, raised, later, listed) = tokio::time::timeout(REPEATED, all).await.expect("none of them hangs");
    raised.expect("raise");
    assert_eq!((held.expect("completed"), later.expect("completed"), listed), (1, 2, Err(true)));
    assert_eq!(crate::pg_sum::handle(&elsewhere, "sum").result().await.expect("completed"), 7);
    assert_eq!(pg_chain::handle(&elsewhere, "later").history().await.expect("history").len(), 6);
    runtime.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_commit_waits_for_the_first_and_finds_its_effect() {
    let Some(server) = gate::server() else { return };
    let schema = Schema::new(&server.url(), "repeated");
    let again = schema.connect();
    let gate = Gate::install(&server, &server.url(), &schema).await;
    let url = gate::held_url(&server.url());
    let provider = PostgresProvider::connect_with(schema.options_at(&url)).await.expect("connect");
    let lease = provider.join(&info()).await.expect("join");
    let (new, started) = start("i", Some(lease));
    provider.submit(vec![started]).await.expect("submit").remove(0).expect("started");
    let event = EventRow {
        id: EventId(1),
        time: at(2),
        decision: false,
        format: 1,
        data: "1".to_owned(),
        payload: Payload::NULL,
        at: None,
    };
    let (events, consumed) = (vec![event], vec![new.start.id]);
    let turn = Turn { events, consumed, ..Turn::new(new.first_execution(), EventId(0), at(2)) };
    let commit = Arc::new(Commit { id: CommitId::new(), write: Write::Turn(Box::new(turn)) });
    gate.close().await;
    let mut first = provider.commit(&lease, vec![commit.clone()]);
    tokio::select! {
        biased;
        _ = &mut first => panic!("it is held at its end"),
        () = gate.until_held() => {}
    }
    // As if the answer of the first one were late.
    let mut second = again.commit(&lease, vec![commit]);
    tokio::select! {
        biased;
        _ = &mut second => panic!("the first one holds its locks"),
        () = gate.until_both_wait() => gate.open().await,
    }
    let repeated = async |commit: BoxFuture<'_, _>| -> bool {
        let committed: Result<Vec<Result<Committed, CommitError>>, ProviderError> = commit.await;
        committed.expect("commit").remove(0).expect("committed").repeated
    };
    assert!(!repeated(first).await && repeated(second).await);
    let record = again.instance(&id("i")).await.expect("read").expect("there is one");
    assert_eq!(record.last_event, EventId(1));
}

/// Faults that pass, or that an operator mends.
const PASSING: &[&str] = &[
    "08006", "25006", "26000", "40001", "40003", "40P01", "42501", "42P01", "42P05", "53100", "53200", "55P03",
    "57014", "57P01", "58030", "XX000",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_faults_only_delay() {
    let Some(schema) = crate::schema("passing") else { return };
    let runtime = process(schema.connect()).start().await.expect("start");
    // A sequence counts also in a transaction that fails. At last most rows pass: a claim of many instances, such as after the
    // loss of the lease, succeeds only if all its rows do.
    schema.execute(
        "CREATE SEQUENCE faults;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN
            IF NEW.name = 'pg_chain' THEN
                n := nextval('faults');
                IF n % 40 < 2 OR (n < 200 AND n % 4 < 2) THEN
                    RAISE EXCEPTION 'injected' USING ERRCODE = split_part(NEW.id, '-', 1);
                END IF;
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON live FOR EACH ROW EXECUTE FUNCTION fail()",
    );
    let client = runtime.client();
    let run = async |code: &&str| {
        let handle = pg_chain::start(&client, format!("{code}-i"), 2).await.expect("start");
        assert_eq!(handle.result().await.expect("completed"), 2, "{code}");
        assert_eq!(handle.history().await.expect("history").len(), 6, "{code}");
    };
    tokio::time::timeout(ENOUGH, join_all(PASSING.iter().map(run))).await.expect("all of them complete");
    runtime.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_table_delays_a_read_until_it_is_back() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "renamed");
    let runtime = process(schema.connect()).start().await.expect("start");
    let handle = pg_chain::start(&runtime.client(), "i", 1).await.expect("start");
    handle.result().await.expect("completed");
    let mut failures = cluster.follow_log("does not exist");
    schema.execute("ALTER TABLE events RENAME TO away");
    let mut history = Box::pin(handle.history());
    tokio::select! {
        history = &mut history => panic!("{history:?}"),
        failed = failures.recv() => failed.expect("the server runs"),
    }
    schema.execute("ALTER TABLE away RENAME TO events");
    assert_eq!(history.await.expect("history").len(), 4);
    runtime.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn silent_host_is_passed_over() {
    let Some((proxy, _)) = proxy() else { return };
    let Some(schema) = crate::schema("silent_host") else { return };
    // It accepts connections and does not answer, as a server that is stopped.
    proxy.stall();
    let url = schema.options().url.replacen('@', &format!("@{},", proxy.address()), 1);
    let connected = PostgresProvider::connect_with(schema.options_at(&url)).await;
    assert!(connected.expect("the other host answers").nodes().await.expect("nodes").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_over_to_a_standby_loses_nothing() {
    // Each commit waits for the standby, once there is one.
    let Some(first) = Cluster::start(&[]) else { return };
    let standby = first.standby();
    let (admin, connection) = tokio_postgres::connect(&first.url(), tokio_postgres::NoTls).await.expect("connect");
    let connection = tokio::spawn(connection);
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reload");
    let schema = Schema::new(&first.url(), "failover");
    // The standby is the first host.
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), first.port());
    let options = schema.options_at(&format!("postgres://postgres@{hosts}/postgres"));
    let connect = async || PostgresProvider::connect_with(options.clone()).await.expect("connect");
    let options = RuntimeOptions::new().lease_time(Duration::from_secs(60));
    let (one, other) = (process(connect().await).options(options.clone()), process(connect().await).options(options));
    let (one, other) = (one.start().await.expect("start"), other.start().await.expect("start"));
    let client = Client::new(connect().await);
    let waiting = crate::pg_sum::start(&client, "waiting", 2).await.expect("start");
    waiting.raise(crate::PgNumber(1)).await.expect("raise");
    let run = async |n: u32| {
        let handle = pg_chain::start(&client, format!("i-{n}"), 60).await.expect("start");
        assert_eq!(handle.result().await.expect("completed"), 60 * 59, "i-{n}");
        assert_eq!(handle.history().await.expect("history").len(), 122, "i-{n}");
    };
    let fails_over = async {
        // In the middle of their work.
        let probe = pg_chain::start(&client, "probe", 3).await.expect("start");
        probe.result().await.expect("completed");
        tokio::task::block_in_place(|| {
            first.crash();
            standby.promote();
        });
    };
    let all = async { tokio::join!(join_all((0..10).map(run)), fails_over) };
    tokio::time::timeout(ENOUGH, all).await.expect("all of them complete");
    waiting.raise(crate::PgNumber(2)).await.expect("raise");
    assert_eq!(waiting.result().await.expect("completed"), 3);
    for runtime in [one, other] {
        runtime.shutdown().await.expect("shutdown");
    }
    let _ = connection.await;
}

/// The nodes of a run through an outage.
const NODES: usize = 5;
/// The seconds of the outage. Default: a little more than the lease.
const OUTAGE: &str = "DUROXIDE_OUTAGE_SECONDS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_longer_than_the_lease_is_no_crash() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "longer");
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let options = RuntimeOptions::new().lease_time(SHORT_LEASE).retry_time(Duration::from_secs(600));
        nodes.push(process(schema.connect()).options(options).start().await.expect("start"));
    }
    let client = nodes[0].client();
    let run = async |n: u32| {
        let handle =
            crate::pg_sum::start(&nodes[n as usize % NODES].client(), format!("i-{n}"), 2).await.expect("start");
        handle.raise(crate::PgNumber(n)).await.expect("raise");
        handle
    };
    let handles = join_all((0..40).map(run)).await;
    tokio::task::block_in_place(|| cluster.crash());
    let during = pg_chain::start(&client, "during", 2).into_future();
    tokio::pin!(during);
    let outage = std::env::var(OUTAGE).ok().and_then(|seconds| Some(Duration::from_secs(seconds.parse().ok()?)));
    let answer = tokio::time::timeout(outage.unwrap_or(SHORT_LEASE + SHORT_LEASE / 4), &mut during).await;
    assert!(answer.is_err(), "the server is down");
    tokio::task::block_in_place(|| cluster.resume());
    let resumed = std::time::Instant::now();
    during.await.expect("start").result().await.expect("completed");
    let finish = async |n: u32| {
        handles[n as usize].raise(crate::PgNumber(1)).await.expect("raise");
        pg_chain::start(&client, format!("chain-{n}"), 2).await.expect("start").result().await.expect("completed");
        handles[n as usize].result().await.expect("completed")
    };
    let results = tokio::time::timeout(ENOUGH, join_all((0..40).map(finish))).await.expect("in time");
    println!("all have completed {} ms after the outage", resumed.elapsed().as_millis());
    assert_eq!(results, (0..40).map(|n| n + 1).collect::<Vec<_>>());
    let (server, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    server.batch_execute(&schema.within("")).await.expect("choose the schema");
    let crashed = "SELECT (SELECT count(*) FROM nodes WHERE crashed) + (SELECT coalesce(sum(crashes), 0) FROM live)";
    let crashed: i64 = server.query_one(crashed, &[]).await.expect("query").get(0);
    assert_eq!(crashed, 0, "no node was taken over, and no crash was counted");
    for node in nodes {
        node.shutdown().await.expect("shutdown");
    }
}
