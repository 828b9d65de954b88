//! The cost of removing instances and executions with many rows, and its parts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use duroxide::Timestamp;
use duroxide::provider::*;
use duroxide::sqlite::{Moment, SqliteOptions, SqliteProvider};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::store::{Store, id, start, submit};

/// Gives an instance a number of executions with a number of events, of which the first has a large payload.
fn fill(store: &Store, name: &str, executions: i64, events: i64) {
    let raw = store.raw();
    raw.execute_batch("BEGIN IMMEDIATE").expect("begin");
    let find = "SELECT seq FROM duroxide_instances WHERE id = ?1";
    let seq: i64 = raw.query_row(find, [name], |row| row.get(0)).expect("is stored");
    fill_rows(&raw, seq, executions, events);
    raw.execute("UPDATE duroxide_instances SET execution = ?2 WHERE seq = ?1", (seq, executions + 1)).expect("update");
    raw.execute_batch("COMMIT").expect("commit");
}

fn fill_rows(raw: &rusqlite::Connection, seq: i64, executions: i64, events: i64) {
    raw.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
         INSERT INTO duroxide_payloads (id, instance, hash, data) SELECT n, ?1, n, zeroblob(2000) FROM n",
        (seq, executions),
    )
    .expect("payloads");
    raw.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
         INSERT INTO duroxide_executions (instance, number, continued_at) SELECT ?1, n, n FROM n",
        (seq, executions),
    )
    .expect("executions");
    raw.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2),
             e (e) AS (SELECT 1 UNION ALL SELECT e + 1 FROM e WHERE e < ?3)
         INSERT INTO duroxide_events (instance, execution, id, time, decision, format, data, payload_ref)
         SELECT ?1, n, e, 1, 1, 1, '\"Completed\"', iif(e = 1, n, NULL) FROM n, e",
        (seq, executions, events),
    )
    .expect("events");
}

fn count(store: &Store, table: &str) -> i64 {
    store.raw().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("count")
}

/// Prunes all executions of a live instance. Returns the steps of the database for each of them.
async fn cost_of_pruning(executions: i64) -> u64 {
    let store = Store::new();
    let provider = store.open();
    submit(&provider, start("i", None)).await.expect("start");
    fill(&store, "i", executions, 3);
    let before = provider.stats().steps;
    let (filter, mut batch, mut pruned) = (Filter::default(), Page::new(500), 0);
    loop {
        let done = provider.prune(&filter, Timestamp::from_micros(1_000_000), &batch).await.expect("prune");
        pruned += done.executions;
        batch.after = done.next;
        if batch.after.is_none() {
            break;
        }
    }
    let steps = provider.stats().steps - before;
    assert_eq!(pruned, executions.unsigned_abs());
    for table in ["duroxide_executions", "duroxide_events", "duroxide_payloads", "duroxide_removals"] {
        assert_eq!(count(&store, table), 0, "{table}");
    }
    assert_eq!(count(&store, "duroxide_messages"), 1, "the instance is live");
    steps / executions.unsigned_abs()
}

#[tokio::test]
async fn pruning_a_live_instance_costs_what_it_removes() {
    let (few, many) = (cost_of_pruning(500).await, cost_of_pruning(2_000).await);
    assert!(many < few * 3 / 2, "{few} steps for each of 500 executions, {many} for each of 2,000");
}

/// The steps of the largest transaction so far, and a signal once the rows of a removal are gone.
struct Watched {
    provider: SqliteProvider,
    largest: Arc<Mutex<u64>>,
    done: UnboundedReceiver<()>,
}

fn watched(store: &Store) -> Watched {
    let (sender, done) = unbounded_channel();
    let (handle, largest) = (Arc::new(Mutex::new(None::<SqliteProvider>)), Arc::new(Mutex::new(0)));
    let (of, seen) = (handle.clone(), largest.clone());
    let state = Mutex::new((0, false));
    let observer = move |moment: Moment<'_>| {
        let Moment::After(statement, true) = moment else { return };
        let Some(steps) = of.lock().expect("lock").as_ref().map(|provider| provider.stats().steps) else { return };
        let mut state = state.lock().expect("lock");
        match statement {
            "BEGIN IMMEDIATE" => state.0 = steps,
            "COMMIT" => {
                let mut largest = seen.lock().expect("lock");
                *largest = (steps - state.0).max(*largest);
                if std::mem::take(&mut state.1) {
                    let _ = sender.send(());
                }
            }
            _ => state.1 |= statement.starts_with("DELETE FROM duroxide_removals"),
        }
    };
    let provider = store.open_with(SqliteOptions::new().observer(observer));
    *handle.lock().expect("lock") = Some(provider.clone());
    Watched { provider, largest, done }
}

#[tokio::test]
async fn rows_of_a_deleted_instance_are_removed_in_parts() {
    let store = Store::new();
    let mut watched = watched(&store);
    submit(&watched.provider, start("i", None)).await.expect("start");
    fill(&store, "i", 2, 20_000);
    store.raw().execute("UPDATE duroxide_instances SET status = 'completed'", []).expect("finish");
    let provider = &watched.provider;
    let deleted = provider.delete(&[id("i")], &[]).await.expect("delete");
    assert_eq!(deleted, [Ok(())]);
    assert!(provider.instance(&id("i")).await.expect("read").is_none(), "it is gone at once");
    timeout(Duration::from_secs(60), watched.done.recv()).await.expect("in time").expect("the rows are removed");
    for table in ["duroxide_events", "duroxide_executions", "duroxide_payloads", "duroxide_removals"] {
        assert_eq!(count(&store, table), 0, "{table}");
    }
    let largest = *watched.largest.lock().expect("lock");
    assert!(largest < 150_000, "a transaction took {largest} steps");
}

#[tokio::test]
async fn next_process_continues_a_removal_and_reuses_no_number() {
    let store = Store::new();
    let provider = store.open();
    submit(&provider, start("old", None)).await.expect("start");
    // As after the death of a process that has removed an instance, whose number was the last one.
    let raw = store.raw();
    fill_rows(&raw, 2, 1, 3_000);
    raw.execute("INSERT INTO duroxide_removals (instance, execution) VALUES (2, 0)", []).expect("insert");
    submit(&provider, start("new", None)).await.expect("start");
    let find = "SELECT seq FROM duroxide_instances WHERE id = 'new'";
    assert_eq!(raw.query_row(find, [], |row| row.get::<_, i64>(0)).expect("is stored"), 3);
    drop(provider);
    let mut next = watched(&store);
    submit(&next.provider, start("later", None)).await.expect("start");
    timeout(Duration::from_secs(60), next.done.recv()).await.expect("in time").expect("the rows are removed");
    assert_eq!(count(&store, "duroxide_events"), 0);
}
