//! Records histories and the database. Run by hand for each version that adds an operation or a format.

use std::sync::Arc;

use duroxide::client::Note;
use duroxide::error::UnreadMessage;
use duroxide::id::EventId;
use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::{TestRuntime, VirtualClock};
use duroxide::transfer::Transfer;
use duroxide::{Client, Handle};
use support::schema::Schema;
use support::{signalling, until_events, until_execution, until_started};

use super::file::{History, folder};
use super::programs::*;

async fn save<O>(name: &str, handle: &Handle<O>) {
    let last = handle.status().await.unwrap().execution.number;
    for number in 1..=last {
        let name = if last > 1 { format!("{name}-{number}") } else { name.to_owned() };
        History::of(&name, &handle.history_of(number).await.unwrap()).save();
    }
}

async fn save_finished<O>(name: &str, handle: Handle<O>) {
    handle.wait().await.unwrap();
    save(name, &handle).await;
}

/// Starts a runtime whose state is in memory.
async fn runtime() -> TestRuntime {
    let builder = TestRuntime::builder().registry(registry()).tags(["served"]);
    crate::store::memory(builder, &MemoryProvider::new()).start().await.unwrap()
}

fn word(text: &str) -> Word {
    Word { text: text.to_owned() }
}

#[tokio::test]
#[ignore = "writes files, run by hand"]
async fn record_histories() {
    let test = runtime().await;
    let client = test.client();
    let called = activities::start(&client, "activities", 7).await.unwrap();
    assert_eq!(called.result().await.unwrap().len(), 10);
    save_finished("activities", called).await;

    let tour = waits::start(&client, "waits").await.unwrap();
    tour.raise(word("early")).await.unwrap();
    for event in 0..2 {
        tour.raise(word(&format!("word {event}"))).await.unwrap();
    }
    tour.raise(Number { n: 5 }).await.unwrap();
    save_finished("waits", tour).await;
    let alone = waits::start(&client, "waits alone").await.unwrap();
    alone.raise(Number { n: 6 }).await.unwrap();
    let speaks_late = async {
        until_events(&alone, 11).await;
        alone.raise(word("last")).await.unwrap();
    };
    join!(alone.wait(), speaks_late).0.unwrap();
    save_finished("waits-timed-out", alone.clone()).await;

    child::start(&client, "taken", 0).await.unwrap();
    save_finished("children", children::start(&client, "children", "taken".to_owned()).await.unwrap()).await;
    save("child-completed", &client.handle("golden-named-child")).await;
    save_finished("closes-children", closes_children::start(&client, "closes").await.unwrap()).await;
    save_finished("child-terminated", client.handle("golden-terminated-child")).await;
    save_finished("child-cancelled", client.handle("golden-cancelled-child")).await;

    save_finished("returns-err", returns_err::start(&client, "returns-err").await.unwrap()).await;
    let parent = watches::start(&client, "watches").await.unwrap();
    let child = |n: u32| client.handle(format!("golden-watched-{n}"));
    until_started(&child(1)).await;
    child(1).terminate("an operator's wish").await.unwrap();
    until_started(&child(2)).await;
    child(2).cancel("an operator's wish").await.unwrap();
    save_finished("watches", parent).await;
    save_finished("too-long", too_long::start(&client, "too-long").await.unwrap()).await;
    save_finished("panics", panics::start(&client, "panics").await.unwrap()).await;

    let cancelled = sleeper::start(&client, "cancelled").await.unwrap();
    cancelled.cancel("not needed").await.unwrap();
    save_finished("cancelled", cancelled).await;
    let compensated = compensates::start(&client, "compensates").await.unwrap();
    compensated.cancel("changed our mind").await.unwrap();
    save_finished("compensates", compensated).await;
    let terminated = listener::start(&client, "terminated").await.unwrap();
    terminated.terminate("an operator's wish").await.unwrap();
    save_finished("terminated", terminated).await;

    let counted = counts::start(&client, "counts", 2, 0).await.unwrap();
    for n in 1..=3 {
        counted.raise(Number { n }).await.unwrap();
    }
    save_finished("counts", counted).await;

    let suspended = reads_number::start(&client, "suspended").await.unwrap();
    suspended.raise_named("golden-number", &"no number").await.unwrap();
    suspended.wait_for(|status| status.suspension.is_some()).await.unwrap();
    save("suspended", &suspended).await;
    test.shutdown().await.unwrap();
}

/// Records at least one history with rows of each format after the first.
#[tokio::test]
#[ignore = "writes files, run by hand"]
async fn record_later_formats() {
    let test = runtime().await;
    let client = test.client();
    let headed = listener::start(&client, "format-2-headers").await.unwrap();
    headed.raise(word("headed")).header("traceparent", "00-1").await.unwrap();
    save_finished("format-2-headers", headed).await;

    let delayed = sleeper::start(&client, "format-3-delayed").delay(days(1)).await.unwrap();
    delayed.cancel("not needed").await.unwrap();
    save_finished("format-3-cancelled-before-start", delayed).await;

    save_finished("format-4-time-out", activities::start(&client, "format-4", 7).await.unwrap()).await;

    child::start(&client, "taken", 0).await.unwrap();
    save_finished("format-5-children", children::start(&client, "format-5", "taken".to_owned()).await.unwrap()).await;
    save("format-2-child", &client.handle("golden-named-child")).await;

    save_finished("format-6-failures", activities::start(&client, "format-6", 7).await.unwrap()).await;
    let dropped = sleeper::start(&client, "format-6-dropped").await.unwrap();
    dropped.raise_named("golden-number", &"no number").await.unwrap();
    until_events(&dropped, 3).await;
    dropped.drop_message(UnreadMessage::Recorded(EventId(3))).await.unwrap();
    dropped.cancel("not needed").await.unwrap();
    save_finished("format-6-dropped-event", dropped).await;

    save_finished("format-7-places", activities::start(&client, "format-7", 7).await.unwrap()).await;
    let ana = client.clone().with_note(Note::by("ana"));
    let compensated = compensates::start(&ana, "format-7-cancelled").await.unwrap();
    compensated.cancel("changed our mind").await.unwrap();
    save_finished("format-7-cancelled", compensated).await;
    test.shutdown().await.unwrap();
}

/// Moves the instances of the recorded database to PostgreSQL, and records their rows.
#[tokio::test]
#[ignore = "writes files, run by hand"]
async fn record_rows_of_postgres() {
    let Some(url) = support::postgres::server() else { return };
    let (schema, first) = (Schema::new(url, "golden_record"), Schema::new(url, "golden_first"));
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("live.db");
    std::fs::copy(folder().join("live.db"), &path).unwrap();
    let (from, to) = (SqliteProvider::open(&path).unwrap(), schema.connect());
    Transfer::new(Arc::new(from), Arc::new(to)).replay_with(registry()).run().await.unwrap();
    super::rows::record(&schema, &first).await;
}

#[tokio::test]
#[ignore = "writes files, run by hand"]
async fn record_database() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("live.db");
    let provider = SqliteProvider::open(&path).unwrap();
    let clock = VirtualClock::new();
    let client = Client::new(provider.clone()).with_clock(clock.clone());
    let node = async |registry: duroxide::Registry| {
        let builder = Runtime::builder().provider(signalling(provider.clone())).clock(clock.clone());
        builder.registry(registry).start().await.unwrap()
    };
    let events = async |id: &str, n: u64| until_events(&client.handle(id), n).await;
    let runtime = node(registry()).await;
    let long = "x".repeat(4000);
    let done = orders::start(&client, "completed", long.clone()).await.unwrap();
    done.raise(word("done")).await.unwrap();
    done.wait().await.unwrap();
    returns_err::start(&client, "failed").await.unwrap().wait().await.unwrap();
    let cancelled = sleeper::start(&client, "cancelled").await.unwrap();
    cancelled.cancel("not needed").await.unwrap();
    cancelled.wait().await.unwrap();
    listener::start(&client, "terminated").await.unwrap().terminate("an operator's wish").await.unwrap();
    orders::start(&client, "waits-for-event", long).await.unwrap();
    events("waits-for-event", 5).await;
    sleeper::start(&client, "sleeps").await.unwrap();
    events("sleeps", 2).await;
    orders::start(&client, "delayed", "delayed".to_owned()).delay(days(200)).await.unwrap();
    let counted = counts::start(&client, "continued", 5, 0).await.unwrap();
    for n in 1..=3 {
        counted.raise(Number { n }).await.unwrap();
    }
    until_execution(&counted, 4).await;
    events("continued", 2).await;
    let suspended = reads_number::start(&client, "suspended").await.unwrap();
    suspended.raise_named("golden-number", &"no number").await.unwrap();
    suspended.wait_for(|status| status.suspension.is_some()).await.unwrap();
    children::start(&client, "parent", "completed".to_owned()).await.unwrap();
    events("parent", 2).await;
    runtime.shutdown().await.unwrap();

    // A node without activities, so that scheduled activities stay unclaimed.
    let only = duroxide::Registry::empty().with_orchestration::<orders>();
    let runtime = node(only).await;
    orders::start(&client, "unclaimed-activity", "waiting".to_owned()).await.unwrap();
    orders::start(&client, "unread-event", "unread".to_owned()).await.unwrap().raise(word("first")).await.unwrap();
    events("unclaimed-activity", 2).await;
    events("unread-event", 3).await;
    runtime.shutdown().await.unwrap();
    orders::start(&client, "unread-start", "no nodes".to_owned()).await.unwrap();
    drop((client, provider));

    let store = rusqlite::Connection::open(&path).unwrap();
    store.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    drop(store);
    let to = folder().join("live.db");
    assert!(!to.exists(), "a recorded database is never overwritten");
    std::fs::copy(&path, to).unwrap();
}
