//! Rows that are damaged or written by a newer version: each suspends its own instance alone, which continues after a repair.

use std::path::Path;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::sqlite::SqliteProvider;
use duroxide::{Client, Filter, Registry, Status};
use support::{signalling, until_events};
use tokio::time::timeout;

#[activity]
async fn returns_input(n: u32) -> duroxide::Result<u32> {
    Ok(n)
}

#[event]
struct Add {
    n: u32,
}

#[orchestration]
async fn calls_and_awaits(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    let n = returns_input::call(&ctx, n).await?;
    Ok(n + ctx.event::<Add>().await.n)
}

/// The progress of an instance at the time of the damage.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// It was never run.
    New,
    /// Its activity waits for a node.
    Scheduled,
    /// It waits for its event.
    Waiting,
}

struct Case {
    stage: Stage,
    table: &'static str,
    /// A condition that selects the rows of the instance.
    rows: &'static str,
    damage: &'static str,
    repair: &'static str,
}

const fn case(
    stage: Stage,
    table: &'static str,
    rows: &'static str,
    damage: &'static str,
    repair: &'static str,
) -> Case {
    Case { stage, table, rows, damage, repair }
}

const CASES: &[Case] = &[
    case(Stage::New, "messages", "lane = 0", "format = 99", "format = 1"),
    case(Stage::New, "messages", "lane = 0", "format = 70000", "format = 1"),
    case(Stage::New, "messages", "lane = 0", "data = 'x' || data", "data = substr(data, 2)"),
    case(Stage::New, "messages", "lane = 0", "payload_ref = 1717", "payload_ref = NULL"),
    case(
        Stage::New,
        "messages",
        "lane = 0",
        "data = json_set(data, '$.Started.from_the_future', 1)",
        "data = json_remove(data, '$.Started.from_the_future')",
    ),
    case(
        Stage::Waiting,
        "events",
        "id = 2",
        "data = json_set(data, '$.ActivityScheduled.options.from_the_future', 1)",
        "data = json_remove(data, '$.ActivityScheduled.options.from_the_future')",
    ),
    case(Stage::New, "instances", "TRUE", "format = 99", "format = 1"),
    case(Stage::Waiting, "instances", "TRUE", "format = 99", "format = 1"),
    case(Stage::Waiting, "events", "id = 1", "format = 99", "format = 1"),
    case(Stage::Waiting, "events", "id = 2", "format = 70000", "format = 1"),
    case(Stage::Waiting, "events", "id = 3", "data = '{'", "data = '{\"ActivityCompleted\":{\"call\":1}}'"),
    case(Stage::Waiting, "events", "id = 3", "payload_ref = 1717", "payload_ref = NULL"),
    case(Stage::Scheduled, "activities", "TRUE", "format = 99", "format = 1"),
    case(Stage::Scheduled, "activities", "TRUE", "headers = '{'", "headers = NULL"),
    case(Stage::Scheduled, "activities", "TRUE", "scheduled = 99", "scheduled = 2"),
    case(Stage::Scheduled, "events", "id = 2", "format = 99", "format = 1"),
];

fn update(database: &Path, case: &Case, set: &str, instance: &str) {
    let by = if case.table == "instances" { "seq" } else { "instance" };
    let update = format!(
        "UPDATE duroxide_{} SET {set} WHERE {by} = (SELECT seq FROM duroxide_instances WHERE id = ?1) AND {}",
        case.table, case.rows
    );
    let changed = rusqlite::Connection::open(database).unwrap().execute(&update, [instance]).unwrap();
    assert_eq!(changed, 1, "{update}");
}

/// Returns the ids and inputs of a stage's instances: one for each case, and one that is not damaged.
fn ids(stage: Stage) -> impl Iterator<Item = (String, u32)> {
    let cases = CASES.iter().enumerate().filter(move |(_, case)| case.stage == stage);
    let cases = cases.map(|(n, _)| (format!("damaged-{n}"), n as u32));
    cases.chain([(format!("intact-{}", stage as u32), 100)])
}

async fn runtime(provider: &SqliteProvider, registry: Registry) -> Runtime {
    Runtime::builder()
        .provider(signalling(provider.clone()))
        .registry(registry.with_orchestration::<calls_and_awaits>())
        .start()
        .await
        .unwrap()
}

async fn bring_to(stage: Stage, client: &Client, events: u64) {
    for (id, n) in ids(stage) {
        let handle = calls_and_awaits::start(client, &id, n).await.unwrap();
        until_events(&handle, events).await;
    }
}

async fn suspended(client: &Client, id: &str) -> Status {
    let handle = client.handle(id);
    let suspended = handle.wait_for(|status| status.suspension.is_some());
    timeout(Duration::from_secs(20), suspended).await.unwrap_or_else(|_| panic!("{id} is not suspended")).unwrap()
}

#[tokio::test]
async fn unreadable_row_suspends_only_its_own_instance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.db");
    let provider = SqliteProvider::open(&path).unwrap();
    let client = Client::new(provider.clone());
    let with_activity = || Registry::empty().with_activity::<returns_input>();
    let first = runtime(&provider, with_activity()).await;
    bring_to(Stage::Waiting, &client, 4).await;
    first.shutdown().await.unwrap();
    let second = runtime(&provider, Registry::empty()).await;
    bring_to(Stage::Scheduled, &client, 2).await;
    second.shutdown().await.unwrap();
    bring_to(Stage::New, &client, 0).await;
    let stages = [Stage::New, Stage::Scheduled, Stage::Waiting];
    for (id, _) in stages.into_iter().flat_map(ids) {
        calls_and_awaits::handle(&client, id).raise(Add { n: 1000 }).await.unwrap();
    }
    for (n, case) in CASES.iter().enumerate() {
        update(&path, case, case.damage, &format!("damaged-{n}"));
    }

    let runtime = runtime(&provider, with_activity()).await;
    for stage in stages {
        let intact = calls_and_awaits::handle(&client, format!("intact-{}", stage as u32));
        let result = timeout(Duration::from_secs(20), intact.result()).await;
        assert_eq!(result.expect("an intact instance is blocked").unwrap(), 1100);
    }
    for (n, Case { table, damage, .. }) in CASES.iter().enumerate() {
        let status = suspended(&client, &format!("damaged-{n}")).await;
        assert!(!status.status.is_finished(), "{table}: {damage}");
        let text = status.suspension.unwrap().to_string();
        let reasons = ["format 99", "format 65534", "damaged", "expected", "EOF", "unknown field `from_the_future`"];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{table}: {damage}: {text}");
    }
    // Suspended instances are not retried in a loop.
    let before = provider.stats();
    assert!(timeout(Duration::from_millis(300), std::future::pending::<()>()).await.is_err());
    let statements = provider.stats().statements - before.statements;
    assert!(statements < 20, "{statements} statements while all instances are idle");

    for (n, case) in CASES.iter().enumerate() {
        let id = format!("damaged-{n}");
        update(&path, case, case.repair, &id);
        calls_and_awaits::handle(&client, &id).resume().await.unwrap();
    }
    for n in 0..CASES.len() as u32 {
        let handle = calls_and_awaits::handle(&client, format!("damaged-{n}"));
        let result = timeout(Duration::from_secs(20), handle.result()).await;
        assert_eq!(
            result.unwrap_or_else(|_| panic!("damaged-{n} does not continue")).unwrap(),
            1000 + n,
            "no row was lost"
        );
    }
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_damaged_instance_is_listed_and_fails_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.db");
    let provider = SqliteProvider::open(&path).unwrap();
    let client = Client::new(provider.clone());
    calls_and_awaits::start(&client, "first", 1).await.unwrap();
    calls_and_awaits::start(&client, "damaged", 1).label("region", "eu").await.unwrap();
    calls_and_awaits::start(&client, "last", 1).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    let everything = Filter::default();
    let cases = [
        ("parent = 'x', parent_execution = NULL, parent_call = 1", "parent"),
        ("parent = '', parent_execution = 1, parent_call = 1", "parent"),
        ("version = 'one'", "version"),
        ("labels = '{'", "labels"),
        ("status = 'asleep'", "status"),
    ];
    for (damage, field) in cases {
        raw.execute(&format!("UPDATE duroxide_instances SET {damage} WHERE id = 'damaged'"), []).unwrap();
        let list = client.list(&everything, 10).await.unwrap_or_else(|error| panic!("{damage}: {error}"));
        let ids: Vec<_> = list.instances.iter().map(|status| status.execution.instance.as_str()).collect();
        assert_eq!(ids, ["last", "damaged", "first"]);
        let told: Vec<_> = list.instances.iter().map(|status| status.damaged.as_deref()).collect();
        assert!(told[0].is_none() && told[2].is_none(), "{told:?}");
        assert!(told[1].is_some_and(|reason| reason.contains(field)), "{damage}: {told:?}");
        let status = client.handle("damaged").status().await.unwrap();
        assert_eq!(status.damaged.as_deref(), told[1]);
        let whole = "parent = NULL, parent_execution = NULL, parent_call = NULL, version = NULL, labels = NULL,
            status = 'running'";
        raw.execute(&format!("UPDATE duroxide_instances SET {whole} WHERE id = 'damaged'"), []).unwrap();
        assert!(client.handle("damaged").status().await.unwrap().damaged.is_none());
    }
    raw.execute("UPDATE duroxide_instances SET id = '' WHERE id = 'damaged'", []).unwrap();
    let list = client.list(&everything, 10).await.unwrap();
    assert!(list.instances[1].damaged.as_deref().is_some_and(|reason| reason.contains("id")), "{list:?}");
}

#[tokio::test]
async fn a_damaged_instance_fails_no_prune() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.db");
    let provider = SqliteProvider::open(&path).unwrap();
    let client = Client::new(provider.clone());
    for id in ["first", "labels", "status", "id", "last"] {
        calls_and_awaits::start(&client, id, 1).label("region", "eu").await.unwrap().terminate("done").await.unwrap();
    }
    let raw = rusqlite::Connection::open(&path).unwrap();
    for (id, damage) in [("labels", "labels = '{'"), ("status", "status = 'asleep'"), ("id", "id = ''")] {
        raw.execute(&format!("UPDATE duroxide_instances SET {damage} WHERE id = ?1"), [id]).unwrap();
    }
    assert_eq!(client.prune(&Filter::default(), client.now() + days(1)).await.unwrap(), 3);
    let left = client.list(&Filter::default(), 10).await.unwrap().instances;
    assert_eq!(left.len(), 2, "rows whose id or status cannot be read are not removed");
    let labels: i64 = raw.query_row("SELECT count(*) FROM duroxide_labels", [], |row| row.get(0)).unwrap();
    assert_eq!(labels, 2, "the labels of removed instances were removed");
}
