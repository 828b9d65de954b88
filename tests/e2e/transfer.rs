//! Exports, imports and moves between storages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::client::InstanceExport;
use duroxide::prelude::*;
use duroxide::provider::{InstanceStatus, MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::{TestRuntime, TestRuntimeBuilder, check_history};
use duroxide::transfer::{Transfer, TransferError, TransferReport};
use duroxide::{Client, ErrorCode, Filter, Registry};
use support::schema::Schema;
use support::{until_events, until_execution};

#[event(name = "transfer-go")]
struct TransferGo {
    n: u32,
}

/// Fails until its third attempt.
#[activity(retry(max_attempts = 5, initial_interval = "1h", backoff = 1.0))]
async fn third_time(ctx: ActivityContext) -> duroxide::Result<(u32, String)> {
    match ctx.attempt() {
        attempt @ 1..3 => Err(duroxide::Error::new(format!("no {attempt}"))),
        attempt => Ok((attempt, ctx.idempotency_key())),
    }
}

#[orchestration]
async fn transfer_child(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    ctx.sleep(hours(30)).await;
    Ok(n)
}

/// Has an open timer, an activity between two attempts, an open child and an unread event at the same time.
#[orchestration]
async fn transferred(ctx: OrchestrationContext) -> duroxide::Result<(u32, String, u32, u32)> {
    let activity = third_time::call(&ctx).start();
    let child = transfer_child::call(&ctx, 7).start();
    ctx.sleep(hours(20)).await;
    let (attempts, key) = activity.await?;
    let first = ctx.event::<TransferGo>().await.n;
    let second = ctx.event::<TransferGo>().await.n;
    Ok((attempts, key, child.await?, first * 10 + second))
}

#[orchestration]
async fn transfer_continued(ctx: OrchestrationContext, left: u32) -> duroxide::Result<u32> {
    ctx.event::<TransferGo>().await;
    if left > 0 {
        return transfer_continued::continue_as_new(&ctx, left - 1).await;
    }
    Ok(ctx.execution().number as u32)
}

/// The code of a build that does not fit the histories of the other one.
enum Sleeps<const HOURS: u64> {}

impl<const HOURS: u64> Orchestration for Sleeps<HOURS> {
    const NAME: &'static str = "transfer-sleeps";
    type Input = ();
    type Output = u64;
    type Error = duroxide::Error;
}

impl<const HOURS: u64> OrchestrationFn for Sleeps<HOURS> {
    async fn run(ctx: OrchestrationContext, (): ()) -> duroxide::Result<u64> {
        ctx.sleep(hours(HOURS)).await;
        Ok(HOURS)
    }
}

fn with_sleeps<const HOURS: u64>(build: &str) -> TestRuntimeBuilder {
    let registry = Registry::discover().with_orchestration::<Sleeps<HOURS>>();
    crate::states(TestRuntime::builder()).registry(registry).build_id(build)
}

/// The hours of a pause: longer than the paused instance would have run.
const PAUSE: u64 = 60;

/// Makes instances of every state in memory, and stops their node. Returns the storage and the key of the activity.
async fn all_states() -> MemoryProvider {
    let store = MemoryProvider::new();
    let test = crate::store::memory(with_sleeps::<1>("1"), &store).start().await.unwrap();
    let client = test.client();
    client.start("transfer-sleeps", "suspended", &()).await.unwrap();
    until_events(&client.handle("suspended"), 2).await;
    let test = test.crash().registry(Registry::discover().with_orchestration::<Sleeps<2>>()).build_id("2");
    let test = test.start().await.unwrap();
    let client = test.client();
    transferred::start(&client, "waits").label("team", "a").await.unwrap();
    transfer_continued::start(&client, "continued", 2).await.unwrap();
    let waits = client.handle("waits");
    waits.raise(TransferGo { n: 4 }).await.unwrap();
    let continued = client.handle("continued");
    continued.raise(TransferGo { n: 0 }).await.unwrap();
    transfer_child::start(&client, "ended", 3).await.unwrap();
    client.handle("ended").terminate("enough").await.unwrap();
    transfer_child::start(&client, "delayed", 5).delay(hours(50)).await.unwrap();
    transfer_child::start(&client, "held", 11).await.unwrap().suspend("held").await.unwrap();
    let paused = transfer_child::start(&client, "paused", 9).await.unwrap();
    paused.suspend("for some days").until(client.now() + hours(PAUSE)).await.unwrap();
    until_execution(&continued, 2).await;
    test.advance(minutes(90));
    let failed = client.handle("waits");
    until_events(&failed, 4).await;
    let suspended = client.handle("suspended");
    suspended.wait_for(|status| status.status == InstanceStatus::Suspended).await.unwrap();
    test.shutdown().await.unwrap();
    store
}

/// Continues the instances in a storage, and checks their results.
async fn finish_all(to: Arc<dyn Provider>) {
    let test = with_sleeps::<1>("1").other_provider(to, |_| ()).start().await.unwrap();
    let client = test.client();
    let waits = client.handle("waits");
    waits.raise(TransferGo { n: 2 }).await.unwrap();
    let (attempts, key, child, events): (u32, String, u32, u32) =
        waits.result_as::<_, duroxide::Error>().await.unwrap();
    let status = waits.status().await.unwrap();
    assert_eq!((attempts, child, events), (3, 7, 42));
    assert!(key.contains(&status.execution.identity.to_string()), "{key}");
    assert_eq!(status.labels["team"], "a");
    for _ in 0..2 {
        client.handle("continued").raise(TransferGo { n: 0 }).await.unwrap();
    }
    assert_eq!(transfer_continued::handle(&client, "continued").result().await.unwrap(), 3);
    assert!(!client.handle("continued").history_of(1).await.unwrap().is_empty());
    // A node whose code fits releases it.
    assert_eq!(client.handle("suspended").result_as::<u64, duroxide::Error>().await.unwrap(), 1);
    assert_eq!(client.handle("ended").status().await.unwrap().status, InstanceStatus::Terminated);
    assert_eq!(transfer_child::handle(&client, "delayed").result().await.unwrap(), 5);
    let paused = transfer_child::handle(&client, "paused");
    assert_eq!(paused.result().await.unwrap(), 9);
    let ended = paused.status().await.unwrap();
    assert!(ended.finished_at.unwrap() >= ended.created_at + hours(PAUSE), "{ended:?}");
    let held = transfer_child::handle(&client, "held");
    assert!(held.status().await.unwrap().suspension.is_some_and(|suspension| suspension.pause.is_some()));
    held.resume().await.unwrap();
    assert_eq!(held.result().await.unwrap(), 11);
    test.shutdown().await.unwrap();
}

async fn moved(from: Arc<dyn Provider>, to: Arc<dyn Provider>) -> TransferReport {
    let registry = Registry::discover().with_orchestration::<Sleeps<1>>();
    let transfer = Transfer::new(from, to).replay_with(registry);
    let plan = transfer.dry_run().await.unwrap();
    assert_eq!((plan.found, plan.copied), (0, plan.instances), "{plan}");
    let report = transfer.run().await.unwrap();
    assert_eq!((report.instances, report.copied, report.events), (plan.instances, plan.copied, plan.events));
    assert!(report.unreplayable.is_empty(), "{report:?}");
    // It is restartable: nothing is copied twice.
    let again = transfer.run().await.unwrap();
    assert_eq!((again.copied, again.found), (0, report.instances));
    report
}

#[tokio::test]
async fn instances_of_every_state_move_and_finish() {
    let memory = all_states().await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteProvider::open(folder.path().join("to.db")).unwrap();
    let report = moved(Arc::new(memory), Arc::new(sqlite.clone())).await;
    assert!(report.live >= 5 && report.activities >= 1 && report.messages >= 3, "{report}");
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let Some(url) = support::postgres::server() else { return finish_all(Arc::new(sqlite)).await };
    let schema = Schema::new(url, &format!("transfer_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed)));
    let postgres: Arc<dyn Provider> = Arc::new(schema.connect());
    moved(Arc::new(sqlite.clone()), postgres.clone()).await;
    finish_all(postgres).await;
    // The source is as it was.
    finish_all(Arc::new(sqlite)).await;
}

#[tokio::test]
async fn move_is_refused_while_a_node_is_a_member() {
    let test = crate::started().await;
    let transfer = Transfer::new(test.store(), Arc::new(MemoryProvider::new()));
    for error in [transfer.dry_run().await.unwrap_err(), transfer.run().await.unwrap_err()] {
        assert!(matches!(error, TransferError::Nodes { storage: "source", .. }), "{error}");
    }
    let transfer = Transfer::new(Arc::new(MemoryProvider::new()), test.store());
    assert!(matches!(transfer.run().await, Err(TransferError::Nodes { storage: "target", .. })));
}

#[tokio::test]
async fn interrupted_move_is_completed_by_another_run() {
    let memory = all_states().await;
    let (source, other) = (Client::new(memory.clone()), MemoryProvider::new());
    // As if the first run had ended after these two.
    for id in ["continued", "waits"] {
        Client::new(other.clone()).import(&source.export(id).await.unwrap()).await.unwrap();
    }
    let transfer = Transfer::new(Arc::new(memory), Arc::new(other.clone()));
    let plan = transfer.dry_run().await.unwrap();
    let report = transfer.run().await.unwrap();
    assert_eq!((plan.found, report.found, report.copied), (2, 2, plan.instances - 2));
    finish_all(Arc::new(other)).await;
}

#[tokio::test]
async fn move_onto_another_instance_is_refused() {
    let memory = all_states().await;
    let other = MemoryProvider::new();
    transfer_child::start(&Client::new(other.clone()), "ended", 3).await.unwrap();
    let transfer = Transfer::new(Arc::new(memory), Arc::new(other));
    for error in [transfer.dry_run().await.unwrap_err(), transfer.run().await.unwrap_err()] {
        assert!(matches!(&error, TransferError::Differs(id) if id.as_str() == "ended"), "{error}");
    }
}

#[tokio::test]
async fn import_with_a_tag_that_no_call_may_have_is_refused() {
    let client = Client::new(all_states().await);
    let mut exports = client.exports(Filter::default());
    let mut count = 0;
    while let Some(export) = exports.next().await {
        for tag in [String::new(), "x".repeat(5000)] {
            let json = export.as_ref().unwrap().to_json();
            let open = "\"activities\":[{";
            if json.contains(open) {
                let json = json.replace(open, &format!("{open}\"tag\":{tag:?},"));
                let importer = Client::new(MemoryProvider::new());
                let error = importer.import(&InstanceExport::from_json(&json).unwrap()).await.unwrap_err();
                assert!(error.to_string().contains("tag"), "{error}");
                count += 1;
            }
        }
    }
    assert!(count > 0, "no instance has an open activity");
}

#[tokio::test]
async fn exported_instances_continue_where_they_are_imported() {
    let client = Client::new(all_states().await);
    let other = MemoryProvider::new();
    let importer = Client::new(other.clone());
    let mut exports = client.exports(Filter::default());
    let mut all = String::new();
    while let Some(export) = exports.next().await {
        let json = export.unwrap().to_json();
        let export = InstanceExport::from_json(&json).unwrap();
        assert_eq!(export.to_json(), json);
        importer.import(&export).await.unwrap();
        let error = importer.import(&export).await.unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert_eq!(importer.export(export.id()).await.unwrap().to_json(), json);
        all += &json;
    }
    for part in [
        "\"pause\":",
        "for some days",
        "\"until\":",
        "\"waits\":{\"text\":\"t\"",
        "\"cause\":\"no #\"",
        "\"cause\":\"DUR",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    finish_all(Arc::new(other)).await;
}

#[tokio::test]
async fn exports_are_all_that_match_the_filter() {
    let client = Client::new(MemoryProvider::new());
    let ids: Vec<_> = (0..250).map(|n| format!("exports-{n}")).collect();
    for id in &ids {
        client.start("transfer-none", id, &()).await.unwrap();
        client.start("transfer-none", format!("{id}-odd"), &()).label("parity", "odd").await.unwrap();
    }
    let exported = async |filter| {
        let (mut exports, mut found) = (client.exports(filter), Vec::new());
        while let Some(export) = exports.next().await {
            found.push(export.unwrap().id().to_string());
        }
        found
    };
    let odd = Filter { labels: [("parity".to_owned(), "odd".to_owned())].into(), ..Filter::default() };
    let newest_first: Vec<_> = ids.iter().rev().map(|id| format!("{id}-odd")).collect();
    assert_eq!(exported(odd).await, newest_first);
    assert_eq!(exported(Filter::default()).await.len(), 500);
}

#[tokio::test]
async fn exported_history_is_a_test_of_the_code() {
    let client = Client::new(all_states().await);
    let export = client.export("continued").await.unwrap();
    check_history(&Registry::discover(), &export.history().unwrap()).unwrap();
    let source = export.test_source("continued.json");
    assert!(source.contains("fn history_of_continued_is_replayed") && source.contains("continued.json"), "{source}");

    let redacted = client.export("waits").await.unwrap().redacted();
    let json = redacted.to_json();
    assert!(!json.contains("\"n\":4") && !json.contains("no 1") && json.contains("third_time"), "{json}");
    assert!(!json.contains("no #"), "{json}");
    let paused = client.export("paused").await.unwrap().redacted().to_json();
    assert!(!paused.contains("for some days") && paused.contains("\"until\":"), "{paused}");
    for error in
        [redacted.history().unwrap_err(), Client::new(MemoryProvider::new()).import(&redacted).await.unwrap_err()]
    {
        assert_eq!(error.code(), ErrorCode::ExportRefused, "{error}");
    }
}

#[tokio::test]
async fn import_refuses_what_does_not_belong_together() {
    let client = Client::new(all_states().await);
    let json = client.export("waits").await.unwrap().to_json();
    let empty = Client::new(MemoryProvider::new());
    type Case<'a> = (&'a str, &'a dyn Fn(&mut serde_json::Value));
    let cases: [Case<'_>; 12] = [
        ("form 2", &|e| e["duroxide_export"] = 2.into()),
        ("unknown field", &|e| e["other"] = 1.into()),
        ("without gaps", &|e| drop(e["history"].as_array_mut().unwrap().remove(1))),
        ("format 999", &|e| e["history"][1]["format"] = 999.into()),
        ("not that of an instance that is completed", &|e| e["status"] = "completed".into()),
        ("not one of its history", &|e| e["activities"][0]["call"] = 77.into()),
        ("begins with", &|e| e["instance"] = "".into()),
        ("name", &|e| e["name"] = "n".repeat(300).into()),
        ("only a suspended instance has a pause", &|e| e["pause"] = serde_json::json!({"reason": "{}"})),
        ("the text of its waits has", &|e| e["waits"]["text"] = "e".repeat(999).into()),
        ("a cause has 999 bytes", &|e| e["activities"][0]["cause"] = "x".repeat(999).into()),
        ("limit", &|e| e["history"][1]["payload"] = "x".repeat(3 << 20).into()),
    ];
    for (expected, change) in cases {
        let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
        change(&mut value);
        let imported = match InstanceExport::from_json(&value.to_string()) {
            Ok(export) => empty.import(&export).await.map(drop),
            Err(error) => Err(error),
        };
        let error = imported.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ExportRefused, "{expected}: {error}");
        let text = error.to_string();
        assert!(
            text.contains(expected) || expected == "begins with" && text.contains("instance id"),
            "{expected}: {text}"
        );
    }
    assert!(InstanceExport::from_json("{").is_err());
    assert!(empty.list(&Filter::default(), 9).await.unwrap().instances.is_empty());
}
