//! Starts and events within a transaction of the program.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::time::{Duration, Instant};

use duroxide::ErrorCode;
use duroxide::prelude::*;
use duroxide_postgres::{By, PostgresProvider, Quiet};
use support::schema::Schema;
use tokio::time::timeout;
use tokio_postgres::{NoTls, Transaction};

use super::{PgNumber, pg_chain, pg_sum, process, schema};

#[event]
struct PgWithin(u32);

/// Reads events up to the number 0, and returns them.
#[orchestration]
async fn pg_within_reads(ctx: OrchestrationContext, first: u32) -> duroxide::Result<Vec<u32>> {
    let mut numbers = vec![first];
    loop {
        match ctx.event::<PgWithin>().await {
            PgWithin(0) => return Ok(numbers),
            PgWithin(n) => numbers.push(n),
        }
    }
}

/// Opens a connection of the program, whose `search_path` is not that of the provider.
pub(super) async fn database() -> tokio_postgres::Client {
    let url = support::postgres::server().expect("a server");
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

async fn orders(schema: &Schema) -> tokio_postgres::Client {
    let database = database().await;
    database.batch_execute(&schema.within("CREATE TABLE orders (id text)")).await.expect("create");
    database
}

async fn insert_order(tx: &Transaction<'_>) {
    tx.execute("INSERT INTO orders (id) VALUES ('a')", &[]).await.expect("insert");
}

async fn count(database: &tokio_postgres::Client, table: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {table}");
    database.query_one(&count, &[]).await.expect("count").get(0)
}

#[tokio::test]
async fn rolled_back_transaction_leaves_no_instance() {
    let Some(schema) = schema("within_rollback") else { return };
    let client = Client::new(schema.connect());
    let mut database = orders(&schema).await;
    let mut tx = database.transaction().await.expect("begin");
    insert_order(&tx).await;
    let started =
        pg_within_reads::start(&client, "order", 1).label("team", "blue").within(&mut tx).await.expect("succeeds");
    let _ = started.handle().raise(PgWithin(1)).within(&mut tx).await.expect("succeeds");
    tx.rollback().await.expect("rollback");
    let handle = started.committed();
    assert!(handle.status().await.unwrap_err().is_not_found());
    for table in ["orders", "instances", "live", "ready", "messages", "labels", "outbox"] {
        assert_eq!(count(&database, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn dropped_connection_leaves_no_instance() {
    let Some(schema) = schema("within_lost") else { return };
    let client = Client::new(schema.connect());
    let mut database = orders(&schema).await;
    let mut tx = database.transaction().await.expect("begin");
    insert_order(&tx).await;
    let started = pg_within_reads::start(&client, "order", 1).within(&mut tx).await.expect("succeeds");
    // As if the process died: no COMMIT and no ROLLBACK is sent.
    std::mem::forget(tx);
    drop(database);
    let handle = pg_within_reads::start(&client, "order", 2).await.expect("the id is free");
    drop(started);
    assert_eq!(handle.status().await.expect("succeeds").status, InstanceStatus::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_transaction_starts_and_delivers_in_order() {
    let Some(schema) = schema("within_commit") else { return };
    let runtime = process(schema.connect()).start().await.expect("succeeds");
    // Another process, of which the runtime learns by the notification within the transaction alone.
    let client = Client::new(schema.connect());
    let mut database = orders(&schema).await;
    // Spawned, so that the future must be `Send`.
    let placed = tokio::spawn(async move {
        let mut tx = database.transaction().await.expect("begin");
        insert_order(&tx).await;
        let start = pg_within_reads::start(&client, "order", 7).label("team", "blue");
        let started = start.within(&mut tx).await.expect("succeeds");
        for n in 1..=300 {
            let _ = started.handle().raise(PgWithin(n)).within(&mut tx).await.expect("succeeds");
        }
        tx.commit().await.expect("commit");
        let handle = started.handle().clone();
        drop(started);
        let mut tx = database.transaction().await.expect("begin");
        let raised = handle.raise(PgWithin(0)).within(Quiet(&mut tx)).await.expect("succeeds");
        tx.commit().await.expect("commit");
        raised.committed();
        (database, handle)
    });
    let (database, handle) = placed.await.expect("no panic");
    let numbers =
        timeout(Duration::from_secs(4), handle.result()).await.expect("the commits are noticed").expect("succeeds");
    assert_eq!(numbers, std::iter::once(7).chain(1..=300).collect::<Vec<_>>());
    assert_eq!((count(&database, "orders").await, count(&database, "outbox").await), (1, 0));
    assert_eq!(count(&database, "labels").await, 1);
    runtime.shutdown().await.expect("succeeds");
}

#[tokio::test]
async fn taken_id_leaves_the_transaction_usable() {
    let Some(schema) = schema("within_taken") else { return };
    let client = Client::new(schema.connect());
    let mut database = orders(&schema).await;
    pg_within_reads::start(&client, "order", 1).await.expect("succeeds");
    let mut tx = database.transaction().await.expect("begin");
    let taken = pg_within_reads::start(&client, "order", 2).within(&mut tx).await.unwrap_err();
    assert!(taken.is_exists(), "{taken}");
    let attach = pg_within_reads::start(&client, "order", 2).if_exists(IfExists::Attach);
    assert!(attach.within(&mut tx).await.is_ok());
    let replace = pg_within_reads::start(&client, "order", 2).if_exists(IfExists::Replace);
    assert_eq!(replace.within(&mut tx).await.unwrap_err().code(), ErrorCode::TransactionUnsuitable);
    let missing = pg_within_reads::handle(&client, "none").raise(PgWithin(1)).within(&mut tx).await.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    let memory = Client::new(duroxide::provider::MemoryProvider::new());
    let other = pg_within_reads::start(&memory, "order", 2).within(&mut tx).await.unwrap_err();
    assert_eq!(other.code(), ErrorCode::TransactionUnsuitable);
    insert_order(&tx).await;
    tx.commit().await.expect("commit");
    assert_eq!(count(&database, "orders").await, 1);
}

#[tokio::test]
async fn event_for_an_instance_that_finishes_first_has_no_effect() {
    let Some(schema) = schema("within_late") else { return };
    let runtime = process(schema.connect()).start().await.expect("succeeds");
    let client = runtime.client();
    let mut database = orders(&schema).await;
    let handle = pg_sum::start(&client, "sum", 1).await.expect("succeeds");
    let mut tx = database.transaction().await.expect("begin");
    let raised = handle.raise(PgNumber(5)).within(&mut tx).await.expect("succeeds");
    handle.raise(PgNumber(4)).await.expect("succeeds");
    assert_eq!(handle.result().await.expect("succeeds"), 4);
    let late = handle.raise(PgNumber(6)).within(&mut tx).await.unwrap_err();
    assert!(late.is_finished(), "{late}");
    tx.commit().await.expect("commit");
    raised.committed();
    let refused = "SELECT count(*) FROM outbox WHERE refused = 'completed'";
    let is_refused = async || database.query_one(refused, &[]).await.expect("count").get::<_, i64>(0) == 1;
    // The refusal signals no process, so the server is asked again and again.
    let until = async { while !is_refused().await {} };
    timeout(Duration::from_secs(10), until).await.expect("the event is refused");
    runtime.shutdown().await.expect("succeeds");
}

/// Holds the id of an instance for eight seconds, and runs others in the meantime.
async fn hold(schema: &Schema, commits: bool) -> Result<Handle<pg_within_reads>, duroxide::ClientError> {
    let provider: PostgresProvider = schema.connect();
    let runtime = process(provider.clone()).start().await.expect("succeeds");
    let (client, outside) = (runtime.client(), Client::new(provider));
    let mut database = orders(schema).await;
    let mut tx = database.transaction().await.expect("begin");
    let started = pg_within_reads::start(&client, "held", 1).within(&mut tx).await.expect("succeeds");
    let starter = outside.clone();
    let waiting = tokio::spawn(async move { pg_within_reads::start(&starter, "held", 2).await });
    let held = Instant::now();
    let mut slowest = Duration::ZERO;
    while held.elapsed() < Duration::from_secs(8) {
        let begun = Instant::now();
        let n = held.elapsed().as_micros();
        // By an eager first turn, and by a submission, from the process that has the waiting start.
        let eager = pg_chain::start(&client, format!("eager-{n}"), 3).await.expect("succeeds");
        let submitted = pg_chain::start(&outside, format!("submitted-{n}"), 3).await.expect("succeeds");
        eager.result().await.expect("succeeds");
        submitted.result().await.expect("succeeds");
        slowest = slowest.max(begun.elapsed());
    }
    assert!(!waiting.is_finished(), "the other starter waits");
    assert!(slowest < Duration::from_millis(2500), "others took {slowest:?}");
    if commits {
        tx.commit().await.expect("commit");
        let _ = started.committed();
    } else {
        tx.rollback().await.expect("rollback");
    }
    let answered = timeout(Duration::from_secs(10), waiting).await.expect("it is answered").expect("no panic");
    runtime.shutdown().await.expect("succeeds");
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_transaction_delays_only_starts_of_its_id() {
    let Some(schema) = schema("within_long") else { return };
    let taken = hold(&schema, true).await.unwrap_err();
    assert!(taken.is_exists(), "{taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_that_waited_for_a_rollback_succeeds() {
    let Some(schema) = schema("within_long_rollback") else { return };
    let handle = hold(&schema, false).await.expect("succeeds");
    assert_eq!(handle.id().expect("succeeds").as_str(), "held");
}

#[tokio::test]
async fn sqlx_transaction_starts_the_instance_if_it_commits() {
    let Some(schema) = schema("within_sqlx") else { return };
    let runtime = process(schema.connect()).start().await.expect("succeeds");
    let client = runtime.client();
    let pool = super::pool();
    let mut tx = pool.begin().await.expect("begin");
    let _ = pg_within_reads::start(&client, "lost", 1).within(&mut tx).await.expect("succeeds");
    tx.rollback().await.expect("rollback");
    let mut tx = pool.begin().await.expect("begin");
    let start = pg_within_reads::start(&client, "order", 1).label("team", "blue");
    let started = start.within(&mut tx).await.expect("succeeds");
    let taken = pg_within_reads::start(&client, "order", 2).within(By(&mut *tx)).await.unwrap_err();
    assert!(taken.is_exists(), "{taken}");
    let _ = started.handle().raise(PgWithin(0)).within(Quiet(&mut *tx)).await.expect("succeeds");
    tx.commit().await.expect("commit");
    let handle = started.committed();
    assert_eq!(timeout(Duration::from_secs(10), handle.result()).await.expect("in time").expect("succeeds"), [1]);
    assert!(pg_within_reads::handle(&client, "lost").status().await.unwrap_err().is_not_found());
    runtime.shutdown().await.expect("succeeds");
}
