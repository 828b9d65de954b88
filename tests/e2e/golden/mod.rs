//! Histories and a database that were recorded by earlier versions: the current code replays and continues them.
//!
//! `tests/histories/*.json` holds one execution each, `tests/histories/live.db` a database with instances in every state, and
//! `tests/histories/live-postgres.jsonl` the rows of the same instances in PostgreSQL.
//! To record histories of a new operation, extend `programs.rs` and run
//! `cargo test -p duroxide-tests --test e2e record_ -- --ignored`. Existing files are never overwritten.

mod file;
mod programs;
mod record;
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

use duroxide::history::{Decision, EventKind, Failure, HistoryEvent};
use duroxide::id::{CommitId, EventId, NodeId};
use duroxide::prelude::*;
use duroxide::provider::{
    Commit, EventRow, Handlers, InstanceStatus, MemoryProvider, MessageRow, NewInstance, NodeInfo, Provider, Turn,
    Write,
};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::{VirtualClock, check_history};
use duroxide::{Client, InstanceId, Payload, Timestamp};
use support::schema::Schema;

use self::file::{folder, recorded};

/// All kinds of events.
const KINDS: &[&str] = &[
    "ActivityCompleted",
    "ActivityFailed",
    "ActivityScheduled",
    "CallDropped",
    "CallRejected",
    "CancelRequested",
    "Cancelled",
    "ChildCompleted",
    "ChildFailed",
    "ChildScheduled",
    "Completed",
    "ContinuedAsNew",
    "EventAwaited",
    "EventDropped",
    "EventRaised",
    "Failed",
    "StartAccepted",
    "StartRejected",
    "Started",
    "TerminateRequested",
    "Terminated",
    "TimerCreated",
    "TimerFired",
];

#[test]
fn history_is_saved_and_read_unchanged() {
    for history in recorded() {
        let events = history.events();
        let saved = serde_json::to_string_pretty(&events).unwrap();
        let read: Vec<HistoryEvent> = serde_json::from_str(&saved).unwrap_or_else(|e| panic!("{}: {e}", history.name));
        assert_eq!(read, events, "{}", history.name);
        check_history(&programs::registry(), &read).unwrap_or_else(|e| panic!("{}: {e}", history.name));
    }
    // A history of a later version is refused, not read in part.
    let later = r#"{"id":1,"time":0,"decision":true,"format":65000,"data":"Completed","payload":null}"#;
    let error = serde_json::from_str::<HistoryEvent>(later).unwrap_err().to_string();
    assert!(error.contains("format 65000"), "{error}");
}

#[test]
fn event_is_shown_in_one_line() {
    let waits = recorded().into_iter().find(|history| history.name == "waits").unwrap();
    let lines: Vec<_> = waits.events().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines[..3],
        [
            "1 2020-01-01T00:00:00.978Z <- start of `golden-waits` 1.0.0",
            "2 2020-01-01T00:00:00.978Z -> call 1: timer, due 2020-01-01T05:00:00.978Z",
            r#"3 2020-01-01T00:00:00.978Z <- event `golden-word`: {"text":"early"}"#,
        ]
    );
    for history in recorded() {
        for event in history.events() {
            assert!(!event.to_string().contains(char::is_control), "{event}");
        }
    }
    let panicked = Failure::Panicked { message: "two\nlines".to_owned() };
    let kind = EventKind::Decision(Decision::Failed { failure: panicked });
    let payload = Payload::encode(&"x".repeat(5_000)).unwrap();
    let event = HistoryEvent { id: EventId(9), time: Timestamp::from_micros(0), kind, payload, at: None };
    let line = event.to_string();
    assert!(line.starts_with(r#"9 1970-01-01T00:00:00.000Z -> panicked: two\nlines: "xxx"#), "{line}");
    assert!(line.ends_with("x.. (5002 bytes)") && line.len() < 1_100, "{line}");
    assert_eq!(format!("{:?}", event.time), "1970-01-01T00:00:00.000000Z");
}

#[test]
fn recorded_histories_replay() {
    let mut kinds = BTreeSet::new();
    let mut formats = BTreeSet::new();
    let mut failures = BTreeSet::new();
    for history in recorded() {
        let events = history.events();
        check_history(&programs::registry(), &events).unwrap_or_else(|e| panic!("{}: {e}", history.name));
        for (row, event) in history.rows().zip(&events) {
            kinds.insert(row.data.trim_matches(['{', '"']).split('"').next().unwrap_or_default().to_owned());
            formats.insert(row.format);
            failures.extend(failure(&event.kind).map(programs::kind_of));
        }
    }
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), KINDS);
    assert_eq!(formats, readable_formats().collect(), "record a history for each new format");
    let all = ["application", "cancelled", "panicked", "rejected", "terminated", "timed out"];
    assert!(all[..].iter().all(|kind| failures.contains(kind)), "{failures:?}");
}

#[tokio::test]
async fn recorded_histories_are_stored_unchanged_by_each_provider() {
    let folder = tempfile::tempdir().unwrap();
    let schema = support::postgres::server().map(|url| Schema::new(url, "golden"));
    let sqlite = SqliteProvider::open(folder.path().join("golden.db")).unwrap();
    let mut providers: Vec<Arc<dyn Provider>> = vec![Arc::new(MemoryProvider::new()), Arc::new(sqlite)];
    providers.extend(schema.as_ref().map(|schema| Arc::new(schema.connect()) as Arc<dyn Provider>));
    for provider in providers {
        let info = NodeInfo {
            id: NodeId::new(),
            name: "golden".to_owned(),
            build: "golden".to_owned(),
            handlers: Handlers::default(),
            lease_time: hours(1),
            details: Default::default(),
        };
        let lease = provider.join(&info).await.unwrap();
        let client = Client::shared(provider.clone());
        for history in recorded() {
            let time = Timestamp::from_micros(0);
            let id = InstanceId::new(history.name.as_str()).unwrap();
            let new = NewInstance { eager: true, ..NewInstance::new(id, "golden", MessageRow::new("start")) };
            let turn = Turn::new(new.first_execution(), EventId(0), time);
            let turn = Turn { creates: Some(Box::new(new)), events: history.rows().collect(), ..turn };
            let commit = Commit { id: CommitId::new(), write: Write::Turn(Box::new(turn)) };
            provider.commit(&lease, vec![Arc::new(commit)]).await.unwrap().remove(0).unwrap();
            let events = client.handle(history.name.as_str()).history().await.unwrap();
            assert_eq!(events, history.events(), "{}", history.name);
            check_history(&programs::registry(), &events).unwrap_or_else(|e| panic!("{}: {e}", history.name));
        }
    }
}

/// Returns the formats of rows that this version reads.
fn readable_formats() -> impl Iterator<Item = u16> {
    let row = |format| EventRow {
        id: EventId(1),
        time: Timestamp::from_micros(0),
        decision: true,
        format,
        data: "\"Completed\"".to_owned(),
        payload: Payload::NULL,
        at: None,
    };
    (1..).take_while(move |format| HistoryEvent::try_from(row(*format)).is_ok())
}

fn failure(kind: &EventKind) -> Option<&Failure> {
    use duroxide::history::{Decision, Input};
    match kind {
        EventKind::Input(Input::ActivityFailed { failure, .. } | Input::ChildFailed { failure, .. })
        | EventKind::Decision(Decision::Failed { failure }) => Some(failure),
        _ => None,
    }
}

/// Checks the finished instances of the migrated database, and then the end of each live one.
#[tokio::test]
async fn recorded_database_is_migrated_and_its_instances_finish() {
    let work = tempfile::tempdir().unwrap();
    let database = work.path().join("live.db");
    std::fs::copy(folder().join("live.db"), &database).unwrap();
    instances_finish(SqliteProvider::open(&database).unwrap()).await;
}

#[tokio::test]
async fn recorded_rows_of_postgres_are_migrated_and_finish() {
    let Some(url) = support::postgres::server() else { return };
    let schema = Schema::new(url, "golden_rows");
    instances_finish(rows::migrated(&schema).await).await;
}

async fn instances_finish(provider: impl Provider + Clone) {
    let client = Client::new(provider.clone());
    check_finished(&client).await;

    let clock = VirtualClock::new();
    let builder = Runtime::builder().provider(provider.clone()).clock(clock.clone());
    let runtime = builder.registry(programs::registry()).start().await.unwrap();
    let client = client.with_clock(clock.clone());
    client.handle("delayed").raise_named("golden-word", &programs::Word { text: "late".to_owned() }).await.unwrap();
    let say = async |id: &str| {
        let word = programs::Word { text: "Ada".to_owned() };
        programs::orders::handle(&client, id).raise(word).await.unwrap();
        programs::orders::handle(&client, id).result().await.unwrap()
    };
    assert_eq!(say("waits-for-event").await, "8000 Ada 10");
    assert_eq!(say("unread-start").await, "16 Ada 10");
    assert_eq!(say("unclaimed-activity").await, "14 Ada 10");
    assert_eq!(programs::orders::handle(&client, "unread-event").result().await.unwrap(), "12 first 10");
    assert_eq!(programs::orders::handle(&client, "delayed").result().await.unwrap(), "14 late 10");
    let counts = programs::counts::handle(&client, "continued");
    for n in [4, 5] {
        counts.raise(programs::Number { n }).await.unwrap();
    }
    assert_eq!(counts.result().await.unwrap(), 12345);
    let suspended = programs::reads_number::handle(&client, "suspended");
    assert!(suspended.status().await.unwrap().suspension.is_some());
    suspended.terminate("its event is not a number").await.unwrap();
    assert_eq!(programs::sleeper::handle(&client, "sleeps").result().await.unwrap(), 8);
    let parent = client.handle("parent");
    assert_eq!(parent.wait().await.unwrap(), InstanceStatus::Completed);
    runtime.shutdown().await.unwrap();
}

async fn check_finished(client: &Client) {
    assert_eq!(programs::orders::handle(client, "completed").result().await.unwrap(), "8000 done 10");
    assert_eq!(client.handle("failed").wait().await.unwrap(), InstanceStatus::Failed);
    assert_eq!(client.handle("cancelled").wait().await.unwrap(), InstanceStatus::Cancelled);
    assert_eq!(client.handle("terminated").wait().await.unwrap(), InstanceStatus::Terminated);
    for id in ["completed", "failed", "cancelled", "waits-for-event", "continued", "suspended"] {
        let history = client.handle(id).history().await.unwrap();
        check_history(&programs::registry(), &history).unwrap_or_else(|e| panic!("{id}: {e}"));
    }
    let first = client.handle("continued").history_of(1).await.unwrap();
    check_history(&programs::registry(), &first).unwrap();
}
