//! The erasure of the values of finished instances.

use duroxide::client::{BulkReport, Note};
use duroxide::id::{AuditId, EventId};
use duroxide::prelude::*;
use duroxide::provider::{AuditQuery, Filter};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::check_history;
use duroxide::{ErrorCode, OutcomeError, Payload, Registry};

use super::started;

/// The personal data of the tests.
const SECRET: &str = "ada-lovelace-4711";

#[event(name = "erase-note")]
struct Remark {
    text: String,
}

#[activity(name = "erase-greet", retry(max_attempts = 2, initial_interval = "1ms"))]
async fn greet(ctx: ActivityContext, name: String) -> duroxide::Result<String> {
    if ctx.attempt() == 1 {
        return Err(duroxide::Error::new(format!("no customer is called {name}")));
    }
    Ok(format!("hello, {name}"))
}

#[orchestration(name = "erase-flow")]
async fn flow(ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
    let remark = ctx.event::<Remark>().await;
    let greeting = greet::call(&ctx, name).await?;
    Ok(format!("{greeting}: {}", remark.text))
}

#[orchestration(name = "erase-child")]
async fn child(_ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
    Ok(name)
}

#[orchestration(name = "erase-parent")]
async fn parent(ctx: OrchestrationContext, name: String, depth: u32) -> duroxide::Result<String> {
    if depth == 0 {
        return Ok(child::call(&ctx, name).await?);
    }
    Ok(parent::call(&ctx, name, depth - 1).await?)
}

#[orchestration(name = "erase-panics")]
async fn panics(_ctx: OrchestrationContext, name: String) -> duroxide::Result<()> {
    panic!("no {name}");
}

#[orchestration(name = "erase-continues")]
async fn continues(ctx: OrchestrationContext, name: String, left: u32) -> duroxide::Result<()> {
    if left > 0 {
        return continues::continue_as_new(&ctx, name, left - 1).await;
    }
    Ok(())
}

async fn finished(client: &Client, id: &str) -> Handle<flow> {
    let handle = flow::start(client, id, SECRET.to_owned()).label("customer", "c77").header("tenant", SECRET).await;
    let handle = handle.unwrap();
    handle.raise(Remark { text: SECRET.repeat(300) }).header("by", SECRET).await.unwrap();
    assert!(handle.result().await.unwrap().contains(SECRET));
    handle
}

/// Returns all that can be read of an instance, as text.
async fn all_of<O>(client: &Client, handle: &Handle<O>) -> String {
    let (status, events) = (handle.status().await.unwrap(), handle.history().await.unwrap());
    let values: String = events.iter().map(|event| event.payload.to_string()).collect();
    let why = client.why(status.execution.instance.as_str()).await.unwrap();
    format!("{status:?}{events:?}{values}{why:?}")
}

fn code<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, OutcomeError<E>>) -> ErrorCode {
    match result.unwrap_err() {
        OutcomeError::Client(error) => error.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn erased_instance_keeps_its_structure_alone() {
    let test = started().await;
    let client = test.client();
    let handle = finished(&client, "erase-1").await;
    assert!(all_of(&client, &handle).await.contains(SECRET));
    let before = handle.history().await.unwrap();

    let receipt: AuditId = handle.erase().await.unwrap();
    let after = handle.history().await.unwrap();
    let shape = |history: &[duroxide::history::HistoryEvent]| -> Vec<_> {
        history.iter().map(|event| (event.id, event.time, event.at.clone())).collect()
    };
    assert_eq!(shape(&after), shape(&before));
    assert!(!all_of(&client, &handle).await.contains(SECRET));
    assert_eq!(after[0].payload, Payload::erased(receipt));
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Completed);
    assert_eq!(code(handle.result().await), ErrorCode::Erased);
    assert_eq!(code(handle.result_as::<serde_json::Value, serde_json::Value>().await), ErrorCode::Erased);
    assert_eq!(check_history(&Registry::discover(), &after).unwrap_err().code, ErrorCode::Erased);
    assert_eq!(handle.reset(EventId(1)).await.unwrap_err().code(), ErrorCode::Erased);
    let fork = client.fork("erase-1", EventId(1), "erase-1-fork").dry_run().await;
    assert_eq!(fork.unwrap_err().code(), ErrorCode::Erased);

    // Once more, also by another client: the receipt is the first one, and there is one entry.
    let ana = client.clone().with_note(Note::by("ana"));
    assert_eq!(flow::handle(&ana, "erase-1").erase().await.unwrap(), receipt);
    let entries = client.audit(&AuditQuery::default(), 9).await.unwrap().entries;
    let found: Vec<_> = entries.iter().map(|entry| (entry.id, entry.action.as_str(), entry.actor.as_str())).collect();
    assert_eq!(found, [(receipt, "erase", "unknown")]);
}

#[tokio::test]
async fn each_kind_of_end_can_be_erased() {
    let test = started().await;
    let client = test.client();
    let panicked = panics::start(&client, "erase-panicked", SECRET.to_owned()).await.unwrap();
    let cancelled = flow::start(&client, "erase-cancelled", SECRET.to_owned()).await.unwrap();
    cancelled.cancel(SECRET).await.unwrap();
    let terminated = flow::start(&client, "erase-terminated", SECRET.to_owned()).await.unwrap();
    terminated.terminate(SECRET).await.unwrap();
    let delayed = flow::start(&client, "erase-delayed", SECRET.to_owned()).delay(days(1)).await.unwrap();
    delayed.terminate(SECRET).await.unwrap();
    for id in ["erase-panicked", "erase-cancelled", "erase-terminated", "erase-delayed"] {
        let handle = client.handle(id);
        let status = handle.wait().await.unwrap();
        handle.erase().await.unwrap();
        assert!(!all_of(&client, &handle).await.contains(SECRET), "{id}");
        assert_eq!(handle.wait().await.unwrap(), status);
        assert_eq!(code(handle.result().await), ErrorCode::Erased, "{id}");
    }
    drop(panicked);
}

#[tokio::test]
async fn erasure_reaches_all_executions() {
    let test = started().await;
    let client = test.client();
    let handle = continues::start(&client, "erase-continued", SECRET.to_owned(), 3).await.unwrap();
    handle.result().await.unwrap();
    let receipt = handle.erase().await.unwrap();
    for number in 1..=4 {
        let events = handle.history_of(number).await.unwrap();
        let values: String = events.iter().map(|event| event.payload.to_string()).collect();
        assert!(!values.contains(SECRET) && !events.is_empty(), "{number}: {values}");
        assert_eq!(events[0].payload.receipt(), Some(receipt));
    }
}

#[tokio::test]
async fn instances_of_a_label_are_erased_in_a_batch() {
    let test = started().await;
    let client = test.client();
    for id in ["erase-b1", "erase-b2"] {
        finished(&client, id).await;
    }
    let live = flow::start(&client, "erase-live", SECRET.to_owned()).label("customer", "c77").await.unwrap();
    let error = live.erase().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InstanceLive);
    assert!(error.to_string().contains("cancel or terminate it first"), "{error}");
    let labelled = || Filter { labels: [("customer".to_owned(), "c77".to_owned())].into(), ..Filter::default() };
    let preview = client.erase(labelled()).preview().await.unwrap();
    assert_eq!(preview.first.len(), 3);
    let report = client.erase(labelled()).run().await.unwrap();
    assert_eq!((report.done, report.skipped, report.failed), (2, 1, 0));
    let query = AuditQuery { batch: Some(report.batch), ..AuditQuery::default() };
    let entries = client.audit(&query, 9).await.unwrap().entries;
    let actions: Vec<_> = entries.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["bulk", "erase", "erase", "bulk"]);
    live.raise(Remark { text: String::new() }).await.unwrap();
    assert!(live.result().await.unwrap().contains(SECRET), "a live one keeps its values");
}

#[tokio::test]
async fn tree_is_erased_with_all_descendants() {
    let test = started().await;
    let client = test.client();
    let handle = parent::start(&client, "erase-tree", SECRET.to_owned(), 2).await.unwrap();
    handle.result().await.unwrap();
    let report: BulkReport = handle.erase_tree().await.unwrap();
    assert_eq!((report.done, report.skipped, report.failed), (4, 0, 0));
    for status in client.list(&Filter::default(), 9).await.unwrap().instances {
        let each = client.handle(status.execution.instance.as_str());
        assert!(!all_of(&client, &each).await.contains(SECRET), "{:?}", status.execution);
    }
}

/// Looks for a text in a file.
fn holds(path: &std::path::Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn erased_values_are_overwritten_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let registry = Registry::empty().with_activity::<greet>().with_orchestration::<flow>();
    let runtime =
        Runtime::builder().provider(SqliteProvider::open(&path).unwrap()).registry(registry).start().await.unwrap();
    let client = runtime.client();
    let handle = finished(&client, "erase-file").await;
    handle.erase().await.unwrap();
    runtime.shutdown().await.unwrap();
    drop((client, handle));
    assert!(holds(&path, "erase-file"));
    assert!(!holds(&path, SECRET));
}
