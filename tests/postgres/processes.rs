//! Nodes and clients of different processes.

use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{Admin, AuditEntry, NodeReport, Page, Provider, ProviderError, Renewal, Want};
use duroxide::{Filter, Timestamp};
use duroxide_postgres::{PostgresClient, PostgresOptions, PostgresProvider, PostgresRuntime};
use futures_util::future::{join_all, try_join_all};

use crate::together::{at, id, info, send};
use crate::{PgNumber, pg_chain, pg_sum, process, schema};

/// Well below the poll of watched instances, so that a result in this time was notified.
const NOTIFIED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn result_is_notified_to_a_client_of_another_process() {
    let Some(schema) = schema("result") else { return };
    let client = Client::new(schema.connect());
    let runtime = process(schema.connect()).start().await.expect("start");
    let handle = pg_chain::start(&client, "i", 3).await.expect("start");
    let result = tokio::time::timeout(NOTIFIED, handle.result()).await.expect("it is notified");
    assert_eq!(result.expect("completed"), 6);
    runtime.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_another_process_arrive_once() {
    let Some(schema) = schema("events") else { return };
    let runtime = process(schema.connect()).start().await.expect("start");
    let handle = pg_sum::start(&runtime.client(), "i", 60).await.expect("start");
    let others = [Client::new(schema.connect()), Client::new(schema.connect())];
    let raise = async |n: u32| {
        let client = if n.is_multiple_of(3) { &runtime.client() } else { &others[n as usize % 2] };
        pg_sum::handle(client, "i").raise(PgNumber(n)).await
    };
    try_join_all((0..60).map(raise)).await.expect("raise");
    let result = tokio::time::timeout(NOTIFIED, handle.result()).await.expect("all of them arrive");
    assert_eq!(result.expect("completed"), (0..60).sum::<u32>());
    runtime.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_two_nodes_complete_once() {
    let Some(schema) = schema("nodes") else { return };
    let first = process(schema.connect()).start().await.expect("start");
    let second = process(schema.connect()).start().await.expect("start");
    let provider = schema.connect();
    let client = Client::new(provider.clone());
    let run = async |n: u32| {
        let client = if n.is_multiple_of(2) { client.clone() } else { first.client() };
        let handle = pg_chain::start(&client, format!("i-{n}"), 4).await.expect("start");
        handle.result().await.expect("completed")
    };
    let results = tokio::time::timeout(3 * NOTIFIED, join_all((0..60).map(run))).await.expect("all of them complete");
    assert_eq!(results, vec![12; 60]);
    for n in 0..60 {
        let history = pg_chain::handle(&client, format!("i-{n}")).history().await.expect("history");
        // The start, a decision and an outcome per call, and the end.
        assert_eq!(history.len(), 10, "i-{n}");
    }
    first.shutdown().await.expect("shutdown");
    second.shutdown().await.expect("shutdown");
    assert!(provider.nodes().await.expect("nodes").is_empty());
    let listed = provider.list(&Filter::default(), &Page::new(100)).await.expect("list");
    assert_eq!((listed.instances.len(), listed.next), (60, None));
}

#[tokio::test]
async fn one_of_many_starts_of_an_id_creates_it() {
    let Some(schema) = schema("starts") else { return };
    let clients: Vec<_> = (0..4).map(|_| Client::new(schema.connect())).collect();
    let start = async |n: usize| pg_chain::start(&clients[n % 4], format!("i-{}", n / 8), 1).await.is_ok();
    let created = join_all((0..64).map(start)).await;
    assert_eq!(created.iter().filter(|created| **created).count(), 8);
}

#[tokio::test]
async fn builder_and_client_open_the_database() {
    let Some(schema) = schema("builder") else { return };
    let runtime = Runtime::builder().state(super::pool()).postgres_with(schema.options()).start().await.expect("start");
    let client = Client::postgres_with(schema.options()).await.expect("connect");
    let handle = pg_chain::start(&client, "i", 2).await.expect("start");
    assert_eq!(handle.result().await.expect("completed"), 2);
    runtime.shutdown().await.expect("shutdown");

    let refused = Runtime::builder().state(super::pool()).postgres_with(schema.options().schema("Bad")).start().await;
    let error = refused.err().expect("the schema is not an identifier").to_string();
    assert!(error.contains("\"Bad\""), "{error}");
    let unreachable = Runtime::builder().state(super::pool()).postgres("postgres://127.0.0.1:1/none").start().await;
    assert!(unreachable.is_err(), "no server listens there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_schema_is_used_as_far_as_it_allows() {
    let Some(schema) = schema("newer") else { return };
    let observer = schema.connect();
    let refused = |error: ProviderError| {
        assert_eq!((error.code(), error.is_retryable()), (duroxide::ErrorCode::SchemaNewer, false), "{error}");
    };
    // A newer program has only added something.
    schema.execute("UPDATE meta SET version = 999");
    let runtime = process(schema.connect()).start().await.expect("start");
    let handle = pg_chain::start(&runtime.client(), "i", 2).await.expect("start");
    assert_eq!(handle.result().await.expect("completed"), 2);
    runtime.shutdown().await.expect("shutdown");
    let lease = observer.join(&info()).await.expect("join");
    // It writes rows that this program does not know: this one may read the others.
    schema.execute("UPDATE meta SET writes_from = 999");
    refused(observer.renew(&lease, &NodeReport::default()).await.expect_err("it is newer"));
    refused(observer.acquire(&lease, Want::new(at(1))).await.map(drop).expect_err("it is newer"));
    refused(observer.submit(vec![send("i", 1)]).await.map(drop).expect_err("it is newer"));
    let reader = schema.connect();
    refused(reader.join(&info()).await.expect_err("it is newer"));
    refused(reader.submit(vec![send("i", 1)]).await.map(drop).expect_err("it is newer"));
    refused(reader.delete(&[id("i")], &[]).await.map(drop).expect_err("it is newer"));
    refused(reader.record(&[AuditEntry::new(at(1), "ana", "login")]).await.expect_err("it is newer"));
    refused(reader.prune_audit(at(1), 9).await.map(drop).expect_err("it is newer"));
    let listed = reader.list(&Filter::default(), &Page::new(100)).await.expect("list");
    assert_eq!(listed.instances.len(), 1);
    // The newer program has left.
    schema.execute("UPDATE meta SET writes_from = 1");
    assert!(matches!(observer.renew(&lease, &NodeReport::default()).await, Ok(Renewal::Held { .. })));
    observer.submit(vec![send("i", 1)]).await.expect("submit").remove(0).expect_err("it has finished");
    schema.execute("UPDATE meta SET reads_from = 999");
    refused(PostgresProvider::connect_with(schema.options()).await.expect_err("it is newer"));
}

/// The schema of a child process, whose clock is ahead.
const CHILD: &str = "DUROXIDE_TEST_CLOCK_SCHEMA";
const AHEAD: Duration = Duration::from_secs(3600);

/// The entry point of the child process.
#[tokio::test]
async fn child_with_a_wrong_clock() {
    let Ok(name) = std::env::var(CHILD) else { return };
    let url = support::postgres::server().expect("that of the parent");
    let provider = PostgresProvider::connect_with(PostgresOptions::new(url).schema(name)).await.expect("connect");
    let clock = provider.clock().expect("it has a clock");
    let own: Timestamp = std::time::SystemTime::now().into();
    assert!(own > clock.now() + AHEAD / 2, "the clock of the process is ahead: {own}, {}", clock.now());
    println!("the time is {}", clock.now().as_micros());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_is_that_of_the_database() {
    let Some(schema) = schema("clock") else { return };
    let Some(library) = support::clocks::library() else { return };
    drop(schema.connect());
    let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "processes::child_with_a_wrong_clock", "--nocapture"]);
    child.env(CHILD, schema.name()).env("DUROXIDE_TEST_POSTGRES_URL", support::postgres::server().expect("a server"));
    support::clocks::shift(&mut child, &library, AHEAD.as_secs().cast_signed());
    let before: Timestamp = std::time::SystemTime::now().into();
    let output = tokio::task::block_in_place(|| child.output()).expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let time = text.split_once("the time is ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    let time = Timestamp::from_micros(time.unwrap_or_else(|| panic!("{text}")));
    // The server of the tests runs on this machine.
    let after: Timestamp = std::time::SystemTime::now().into();
    let slack = Duration::from_secs(60);
    assert!(time + slack > before && after + slack > time, "{before}, {time}, {after}");
}
