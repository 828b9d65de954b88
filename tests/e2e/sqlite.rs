//! The runtime on SQLite: transactions per step, restarts, idle cost, foreign locks, opening and closing files.

use std::path::Path;
use std::time::{Duration, Instant};

use duroxide::prelude::*;
use duroxide::sqlite::{SqliteOptions, SqliteProvider};
use duroxide::{ErrorCode, Registry};
use support::{signalling, until_events, until_stored};
use tokio::time::timeout;

use crate::activities::{chain, double};

async fn runtime(provider: &SqliteProvider) -> Runtime {
    let registry = Registry::empty().with_activity::<double>().with_orchestration::<chain>();
    Runtime::builder().provider(signalling(provider.clone())).registry(registry).start().await.unwrap()
}

#[tokio::test]
async fn step_of_a_live_instance_is_one_write_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
    let runtime = runtime(&provider).await;
    let before = provider.stats().write_transactions;
    let handle = chain::start(&runtime.client(), "chain", 1000).await.unwrap();
    handle.result().await.unwrap();
    let transactions = provider.stats().write_transactions - before;
    // The start, the first turn, and one for each outcome, which schedules the next step. A heartbeat may fall in between.
    assert!((1001..=1010).contains(&transactions), "{transactions} write transactions for 1,000 steps");
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn restart_continues_at_the_last_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let first = SqliteProvider::open(&path).unwrap();
    let runtime_1 = runtime(&first).await;
    let handle = chain::start(&runtime_1.client(), "chain", 200).await.unwrap();
    until_events(&handle, 100).await;
    // Like the death of the process: nothing is released.
    drop((handle, runtime_1, first));
    let second = SqliteProvider::open(&path).unwrap();
    let runtime_2 = runtime(&second).await;
    let handle = chain::handle(&runtime_2.client(), "chain");
    handle.result().await.unwrap();
    assert_eq!(handle.history().await.unwrap().len(), 402, "each step is recorded once");
    runtime_2.shutdown().await.unwrap();
}

#[event]
struct Wake;

#[orchestration]
async fn rests(ctx: OrchestrationContext, child: bool) -> duroxide::Result<u32> {
    if child {
        return Ok(rests::call(&ctx, false).id(format!("{}-child", ctx.execution().instance)).await?);
    }
    ctx.event::<Wake>().await;
    Ok(7)
}

fn scalar(path: &Path, query: &str) -> i64 {
    rusqlite::Connection::open(path).unwrap().query_row(query, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn ten_thousand_waiting_instances_cost_nothing_and_wake_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("idle.db");
    let provider = SqliteProvider::open(&path).unwrap();
    let registry = Registry::empty().with_orchestration::<rests>();
    let runtime = Runtime::builder().provider(signalling(provider.clone())).registry(registry).start().await.unwrap();
    let client = runtime.client();
    let start = |n| rests::start(&client, format!("rests-{n}"), true).into_future();
    join_all((0..5_000).map(start)).await.into_iter().for_each(|started| drop(started.unwrap()));
    // Half of the instances wait for an event, and half for a child.
    let waiting = || scalar(&path, "SELECT count(*) FROM duroxide_instances WHERE last_event = 2");
    until_stored(async || waiting() == 10_000).await;
    let nothing = async |time| assert!(timeout(time, std::future::pending::<()>()).await.is_err());
    nothing(Duration::from_millis(500)).await;
    let before = provider.stats();
    nothing(Duration::from_secs(3)).await;
    let after = provider.stats();
    // A renewal may write the report of the node once, since its load has changed.
    let writes = after.write_transactions - before.write_transactions;
    assert!(writes <= 1, "{writes} write transactions in three seconds");
    // A heartbeat every five seconds, and a poll for missed notifications as often.
    let statements = after.statements - before.statements;
    assert!(statements <= 10, "{statements} statements in three seconds");
    // The first instances were evicted, since there are more than the cache holds.
    for n in (0..5_000).step_by(500) {
        let begin = Instant::now();
        rests::handle(&client, format!("rests-{n}-child")).raise(Wake).await.unwrap();
        assert_eq!(rests::handle(&client, format!("rests-{n}")).result().await.unwrap(), 7);
        // A missed notification would be found by the poll after five seconds.
        assert!(begin.elapsed() < Duration::from_secs(4), "rests-{n} took {:?} to wake", begin.elapsed());
    }
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn foreign_transaction_of_eight_seconds_causes_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy.db");
    let provider = SqliteProvider::open(&path).unwrap();
    let runtime = runtime(&provider).await;
    let running = chain::start(&runtime.client(), "running", 300).await.unwrap();
    until_events(&running, 10).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    // SQLite's lock is not fair: at worst this connection gets it when the chain has ended.
    other.busy_timeout(Duration::from_secs(60)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE orders (id INTEGER)").unwrap();
    let client = runtime.client();
    let mut started = tokio::spawn(async move { chain::start(&client, "started", 3).await });
    assert!(timeout(Duration::from_secs(8), &mut started).await.is_err(), "the start has not waited for the lock");
    other.execute_batch("COMMIT").unwrap();
    started.await.unwrap().unwrap().result().await.unwrap();
    running.result().await.unwrap();
    assert_eq!(running.history().await.unwrap().len(), 602, "each step is recorded once");
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn shutdown_closes_every_connection_and_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let registry = Registry::empty().with_activity::<double>().with_orchestration::<chain>();
    for round in 0..3 {
        let runtime = Runtime::builder().sqlite(&path).registry(registry.clone()).start().await.unwrap();
        let handle = chain::start(&runtime.client(), format!("chain-{round}"), 5).await.unwrap();
        handle.result().await.unwrap();
        runtime.shutdown().await.unwrap();
        drop(handle);
        // SQLite removes the log when the last connection closes.
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(files.collect::<Vec<_>>(), ["state.db"]);
    }
}

#[test]
fn last_closed_connection_removes_the_log() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..50 {
        drop(SqliteProvider::open_with(folder.path().join("state.db"), SqliteOptions::new().readers(8)).unwrap());
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(files.collect::<Vec<_>>(), ["state.db"]);
    }
}

#[tokio::test]
async fn file_that_cannot_be_opened_or_migrated_refuses_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer.db");
    drop(SqliteProvider::open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().execute("UPDATE duroxide_schema SET version = 999", []).unwrap();
    let clashes = folder.path().join("clashes.db");
    let other = rusqlite::Connection::open(&clashes).unwrap();
    other.execute_batch("CREATE TABLE duroxide_messages (mine TEXT)").unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "a file of another kind, and longer than the header of a database").unwrap();
    let cases = [
        (&newer, ErrorCode::SchemaNewer, "version 999"),
        (&clashes, ErrorCode::StorageFailed, "duroxide_messages"),
        (&folder.path().to_owned(), ErrorCode::StorageFailed, "open"),
        (&text, ErrorCode::StorageFailed, "text.txt"),
        (&":memory:".into(), ErrorCode::StorageFailed, ".in_memory()"),
        (&"file:shop.db?mode=memory".into(), ErrorCode::StorageFailed, "plain path"),
    ];
    for (path, code, part) in cases {
        let error = Runtime::builder().sqlite(path).registry(Registry::empty()).start().await.err().unwrap();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part) && error.to_string().starts_with(code.as_str()), "{error}");
        assert!(!error.is_retryable(), "{error}");
    }
}
