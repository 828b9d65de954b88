//! Ends from outside: they reach every live instance in any state, and activities whose code does not stop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use duroxide::error::UnreadMessage;
use duroxide::id::EventId;
use duroxide::prelude::*;
use duroxide::provider::{InstanceStatus, MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::{Client, ErrorCode, Filter, RuntimeBuilder, RuntimeOptions};
use support::{signalling, until_events, until_started, until_stored};
use tokio::time::timeout;

use crate::runtime::Gate;

/// Fails a test that would wait forever.
async fn soon<F: IntoFuture>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future.into_future()).await.expect("it does not end")
}

fn on(provider: impl Provider) -> RuntimeBuilder {
    Runtime::builder()
        .provider(signalling(provider))
        .state(Arc::new(AtomicU32::new(0)))
        .state(crate::continue_as_new::Gates::default())
        .state(crate::faults::Work::default())
        .state(Gate::default())
        .state(support::Faults::default())
}

fn sqlite(folder: &Path) -> SqliteProvider {
    SqliteProvider::open(folder.join("ending.db")).unwrap()
}

#[event(name = "ending-finish")]
struct Finish;

#[orchestration(name = "ending-not-durable", allow = "this misuse is the subject of the test")]
async fn not_durable(ctx: OrchestrationContext) -> duroxide::Result<()> {
    drop(ctx);
    std::future::pending().await
}

#[orchestration(name = "ending-sleeps")]
async fn sleeps(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(Duration::MAX).await;
    Ok(())
}

/// Ends the loops of [`spins`] when the tests have ended, so that no thread outlives them.
static STOP: AtomicBool = AtomicBool::new(false);

#[orchestration(name = "ending-spins", allow = "this misuse is the subject of the test")]
async fn spins(ctx: OrchestrationContext) -> duroxide::Result<()> {
    while !STOP.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    ctx.sleep(Duration::MAX).await;
    Ok(())
}

const CHILDREN: [&str; 4] = ["ending-sleeps", "ending-not-durable", "ending-spins", "ending-unregistered"];

/// Starts a child that starts a child of each kind, and ends before them.
#[orchestration(name = "ending-grandparent")]
async fn grandparent(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let _child = parent::call(&ctx).on_parent_close(ClosePolicy::Terminate).id("parent").start();
    ctx.event::<Finish>().await;
    Ok(())
}

#[orchestration(name = "ending-parent")]
async fn parent(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let child = |name: &&str| {
        let child = ctx.call_orchestration::<()>(name, &()).id(*name);
        child.on_parent_close(ClosePolicy::Terminate).start()
    };
    let _children: Vec<_> = CHILDREN.iter().map(child).collect();
    ctx.event::<Number>().await;
    Ok(())
}

async fn check_terminated_children(provider: impl Provider + Clone, parent_is_suspended: bool) {
    let runtime = on(provider.clone()).start().await.unwrap();
    let client = runtime.client();
    let first = grandparent::start(&client, "grandparent").await.unwrap();
    for id in CHILDREN.iter().chain(&["parent"]) {
        until_started(&client.handle(id)).await;
    }
    soon(client.handle("ending-not-durable").wait_for(|status| status.suspension.is_some())).await.unwrap();
    if parent_is_suspended {
        let parent = client.handle("parent");
        parent.raise_named("ending-number", &"of another type").await.unwrap();
        soon(parent.wait_for(|status| status.suspension.is_some())).await.unwrap();
    }
    first.raise(Finish).await.unwrap();
    soon(first.result()).await.unwrap();
    for id in CHILDREN.iter().chain(&["parent"]) {
        let ended = timeout(Duration::from_secs(20), client.handle(id).wait()).await;
        assert_eq!(ended.map_err(|_| *id).unwrap().unwrap(), InstanceStatus::Terminated, "{id}");
    }
    STOP.store(true, Ordering::SeqCst);
    runtime.shutdown().await.unwrap();
    STOP.store(false, Ordering::SeqCst);
}

#[tokio::test]
async fn close_policy_terminates_children_in_any_state() {
    for parent_is_suspended in [false, true] {
        check_terminated_children(MemoryProvider::new(), parent_is_suspended).await;
        let folder = tempfile::tempdir().unwrap();
        check_terminated_children(sqlite(folder.path()), parent_is_suspended).await;
    }
}

#[tokio::test]
async fn instance_with_a_damaged_status_is_terminated_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let provider = sqlite(folder.path());
    let client = Client::new(provider.clone());
    let handle = sleeps::start(&client, "damaged").await.unwrap();
    let raw = rusqlite::Connection::open(folder.path().join("ending.db")).unwrap();
    raw.execute("UPDATE duroxide_instances SET status = 'asleep'", []).unwrap();
    handle.terminate("damaged").await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), InstanceStatus::Terminated);
    handle.delete().await.unwrap();
    assert!(handle.status().await.is_err());
}

#[event(name = "ending-number")]
struct Number {
    n: u32,
}

#[orchestration(name = "ending-adds")]
async fn adds(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(ctx.event::<Number>().await.n + ctx.event::<Number>().await.n)
}

#[tokio::test]
async fn cancel_of_a_suspended_instance_overtakes_bad_events() {
    let runtime = on(MemoryProvider::new()).start().await.unwrap();
    let handle = adds::start(&runtime.client(), "cancelled").await.unwrap();
    handle.raise_named("ending-number", &"of another type").await.unwrap();
    soon(handle.wait_for(|status| status.suspension.is_some())).await.unwrap();
    handle.cancel("enough").await.unwrap();
    handle.resume().await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), InstanceStatus::Cancelled);
    runtime.shutdown().await.unwrap();
}

#[orchestration(name = "ending-reads-later")]
async fn reads_later(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    ctx.event::<Finish>().await;
    Ok(ctx.event::<Number>().await.n + ctx.event::<Number>().await.n)
}

/// Waits until an instance is suspended because of a message that an operator may drop, and returns the message.
async fn unread<O>(handle: &Handle<O>) -> UnreadMessage {
    let status = soon(handle.wait_for(|status| status.status == InstanceStatus::Suspended)).await.unwrap();
    status.suspension.unwrap().unread.expect("the suspension names the message")
}

async fn check_dropped_events(provider: impl Provider + Clone) {
    let runtime = on(provider).start().await.unwrap();
    let client = runtime.client();
    let handle = adds::start(&client, "reads at once").await.unwrap();
    handle.raise_named("ending-number", &"of another type").await.unwrap();
    let message = unread(&handle).await;
    assert!(matches!(message, UnreadMessage::Queued(_)), "{message}");
    handle.raise(Number { n: 1 }).await.unwrap();
    handle.resume().await.unwrap();
    assert_eq!(unread(&handle).await, message, "it suspends its reader again");
    handle.drop_message(message).await.unwrap();
    let again = handle.drop_message(message).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::MessageNotFound);
    handle.resume().await.unwrap();
    handle.raise(Number { n: 2 }).await.unwrap();
    assert_eq!(soon(handle.result()).await.unwrap(), 3);

    let handle = reads_later::start(&client, "reads later").await.unwrap();
    handle.raise_named("ending-number", &"of another type").await.unwrap();
    until_events(&handle, 3).await;
    handle.raise(Number { n: 1 }).await.unwrap();
    handle.raise(Finish).await.unwrap();
    let message = unread(&handle).await;
    assert!(matches!(message, UnreadMessage::Recorded(EventId(3))), "{message}");
    let other = handle.drop_message(UnreadMessage::Recorded(EventId(1))).await.unwrap_err();
    assert_eq!(other.code(), ErrorCode::MessageNotFound);
    handle.drop_message(message).await.unwrap();
    handle.resume().await.unwrap();
    handle.raise(Number { n: 4 }).await.unwrap();
    assert_eq!(soon(handle.result()).await.unwrap(), 5);
    let history = handle.history().await.unwrap();
    assert_eq!(duroxide::testing::check_history(&duroxide::Registry::discover(), &history), Ok(()), "{history:?}");
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn operator_drops_an_event_that_its_reader_cannot_decode() {
    check_dropped_events(MemoryProvider::new()).await;
    let folder = tempfile::tempdir().unwrap();
    check_dropped_events(sqlite(folder.path())).await;
}

/// Reads numbers in its third execution. Events that arrive in the first are carried to it.
#[orchestration(name = "ending-carries-numbers")]
async fn carries_numbers(ctx: OrchestrationContext, execution: u32) -> duroxide::Result<u32> {
    ctx.event::<Finish>().await;
    if execution < 3 {
        return carries_numbers::continue_as_new(&ctx, execution + 1).await;
    }
    Ok(ctx.event::<Number>().await.n + ctx.event::<Number>().await.n)
}

/// Waits until an instance that carries numbers is suspended by the first of them, which has another type.
async fn carried_number(client: &Client, id: &str) -> (Handle<carries_numbers>, UnreadMessage) {
    let handle = carries_numbers::start(client, id, 1).await.unwrap();
    handle.raise_named("ending-number", &"of another type").await.unwrap();
    handle.raise(Number { n: 1 }).await.unwrap();
    for _ in 0..3 {
        handle.raise(Finish).await.unwrap();
    }
    let message = unread(&handle).await;
    assert!(matches!(message, UnreadMessage::Queued(_)), "{message}");
    assert_eq!(handle.status().await.unwrap().execution.number, 3);
    (handle, message)
}

async fn check_carried_events(provider: impl Provider + Clone) {
    let runtime = on(provider).start().await.unwrap();
    let client = runtime.client();
    let (handle, message) = carried_number(&client, "dropped").await;
    handle.resume().await.unwrap();
    assert_eq!(unread(&handle).await, message, "it suspends its reader again");
    handle.drop_message(message).await.unwrap();
    let again = handle.drop_message(message).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::MessageNotFound);
    handle.resume().await.unwrap();
    handle.raise(Number { n: 4 }).await.unwrap();
    assert_eq!(soon(handle.result()).await.unwrap(), 5, "the events that follow are read");
    let history = handle.history().await.unwrap();
    assert_eq!(duroxide::testing::check_history(&duroxide::Registry::discover(), &history), Ok(()), "{history:?}");

    let (handle, _) = carried_number(&client, "cancelled").await;
    handle.cancel("enough").await.unwrap();
    handle.resume().await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), InstanceStatus::Cancelled);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn carried_event_that_cannot_be_decoded_is_dropped() {
    check_carried_events(MemoryProvider::new()).await;
    let folder = tempfile::tempdir().unwrap();
    check_carried_events(sqlite(folder.path())).await;
}

#[tokio::test]
async fn message_is_dropped_although_a_live_copy_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = on(sqlite(folder.path())).start().await.unwrap();
    let handle = carries_numbers::start(&runtime.client(), "held", 1).await.unwrap();
    for n in 1..=3 {
        handle.raise(Number { n }).await.unwrap();
    }
    handle.raise(Finish).await.unwrap();
    handle.raise(Finish).await.unwrap();
    let waits_in_third = |status: &duroxide::Status| status.execution.number == 3 && status.events.0 == 2;
    until_stored(async || waits_in_third(&handle.status().await.unwrap())).await;
    let raw = rusqlite::Connection::open(folder.path().join("ending.db")).unwrap();
    let find = "SELECT lower(hex(id)) FROM duroxide_messages WHERE lane = 1 ORDER BY arrival LIMIT 1";
    let oldest: String = raw.query_row(find, [], |row| row.get(0)).unwrap();
    let oldest = serde_json::from_value(serde_json::json!({ "queued": oldest })).unwrap();
    handle.drop_message(oldest).await.unwrap();
    handle.raise(Finish).await.unwrap();
    assert_eq!(soon(handle.result()).await.unwrap(), 5);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn operator_drops_a_damaged_message() {
    let folder = tempfile::tempdir().unwrap();
    let provider = sqlite(folder.path());
    let client = Client::new(provider.clone());
    let handle = adds::start(&client, "damaged").await.unwrap();
    handle.raise(Number { n: 1 }).await.unwrap();
    let raw = rusqlite::Connection::open(folder.path().join("ending.db")).unwrap();
    raw.execute("UPDATE duroxide_messages SET data = '{' WHERE lane = 2", []).unwrap();
    let runtime = on(provider).start().await.unwrap();
    let message = unread(&handle).await;
    handle.drop_message(message).await.unwrap();
    handle.resume().await.unwrap();
    for n in [2, 3] {
        handle.raise(Number { n }).await.unwrap();
    }
    assert_eq!(soon(handle.result()).await.unwrap(), 5);
    runtime.shutdown().await.unwrap();
}

#[activity(name = "ending-takes-a-number")]
async fn takes_a_number(n: u32) -> duroxide::Result<u32> {
    Ok(n)
}

#[orchestration(name = "ending-sends-a-text")]
async fn sends_a_text(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let parked = ctx.call_activity::<u32>("ending-takes-a-number", &"a text").start();
    let n = ctx.event::<Number>().await.n;
    drop(parked);
    Ok(n)
}

async fn check_parked_activity(provider: impl Provider + Clone) {
    let runtime = on(provider).start().await.unwrap();
    let handle = sends_a_text::start(&runtime.client(), "parked").await.unwrap();
    let is_suspended = |status: &duroxide::Status| status.status == InstanceStatus::Suspended;
    let status = soon(handle.wait_for(is_suspended)).await.unwrap();
    assert_eq!(status.suspension.unwrap().code, ErrorCode::UnreadableActivityInput);
    let filter = Filter { statuses: vec![InstanceStatus::Suspended], ..Filter::default() };
    let list = runtime.client().list(&filter, 10).await.unwrap().instances;
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].suspension.as_ref().unwrap().code, ErrorCode::UnreadableActivityInput);
    // The other branches of the instance continue.
    handle.raise(Number { n: 7 }).await.unwrap();
    assert_eq!(soon(handle.result()).await.unwrap(), 7);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn instance_with_a_parked_activity_is_found_as_suspended() {
    check_parked_activity(MemoryProvider::new()).await;
    let folder = tempfile::tempdir().unwrap();
    check_parked_activity(sqlite(folder.path())).await;
}

static LIMITED: LazyLock<Gate> = LazyLock::new(Gate::default);
static CANCELLED: LazyLock<Gate> = LazyLock::new(Gate::default);

/// The code of an activity that does not stop: it counts its begin, and blocks until the test lets it return.
fn run_until_open(gate: &Gate) -> u32 {
    let n = gate.arrive();
    gate.block();
    n
}

#[activity(name = "ending-computes")]
async fn computes() -> duroxide::Result<u32> {
    Ok(run_until_open(&LIMITED))
}

#[activity(name = "ending-blocks")]
fn blocks() -> duroxide::Result<u32> {
    Ok(run_until_open(&LIMITED))
}

#[orchestration(name = "ending-limited")]
async fn limited(ctx: OrchestrationContext, limit: Duration) -> duroxide::Result<Vec<String>> {
    // One of those that compute does so in its first step, the others on a thread of tokio.
    let computing = (0..3).map(|_| computes::call(&ctx).timeout(limit).start()).collect::<Vec<_>>();
    let blocking = blocks::call(&ctx).timeout(limit).start();
    let mut results = join_all(computing).await;
    results.push(blocking.await);
    Ok(results.into_iter().map(|result| result.map_or_else(|error| error.to_string(), |n| n.to_string())).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn code_that_ignores_its_limit_times_out_at_the_limit() {
    let log = crate::logging::log();
    let options = RuntimeOptions::new().turn_warning(Duration::from_millis(200));
    let options = options.max_activities(3).max_blocking_activities(1);
    let runtime = on(MemoryProvider::new()).options(options).start().await.unwrap();
    let client = runtime.client();
    let handle = limited::start(&client, "ignores-its-limit", Duration::from_millis(50)).await.unwrap();
    for error in soon(handle.result()).await.unwrap() {
        assert!(error.contains("start-to-close limit of 50ms; attempts: 1"), "{error}");
    }
    let line = soon(log.until("blocks it instance=ignores-its-limit call=1 activity=\"ending-computes\"")).await;
    for part in ["DUR0009", "its time limit has passed", "seconds=0."] {
        assert!(line.text.contains(part), "{part} is missing: {}", line.text);
    }
    // The code keeps its permits until it returns, so that its threads do not accumulate.
    let next = limited::start(&client, "waits-for-permits", hours(1)).await.unwrap();
    until_events(&next, 5).await;
    assert_eq!(LIMITED.arrived(), 4);
    LIMITED.open();
    let mut results = soon(next.result()).await.unwrap();
    results.sort();
    assert_eq!(results, ["5", "6", "7", "8"]);
    runtime.shutdown().await.unwrap();
}

#[activity(name = "ending-ignores-its-cancellation")]
async fn ignores_its_cancellation() -> duroxide::Result<u32> {
    Ok(run_until_open(&CANCELLED))
}

#[orchestration(name = "ending-drops-its-call")]
async fn drops_its_call(ctx: OrchestrationContext) -> duroxide::Result<bool> {
    select! {
        _ = ignores_its_cancellation::call(&ctx) => Ok(false),
        Finish = ctx.event::<Finish>() => Ok(true),
    }
}

#[tokio::test]
async fn cancelled_code_that_does_not_stop_is_logged() {
    let log = crate::logging::log();
    let options = RuntimeOptions::new().turn_warning(Duration::from_millis(200));
    let runtime = on(MemoryProvider::new()).options(options).start().await.unwrap();
    let handle = drops_its_call::start(&runtime.client(), "ignores-its-cancellation").await.unwrap();
    handle.raise(Finish).await.unwrap();
    assert!(soon(handle.result()).await.unwrap(), "nothing waits for the code");
    let line = soon(log.until("blocks it instance=ignores-its-cancellation call=1")).await;
    assert!(line.text.contains("DUR0009") && line.text.contains("it was cancelled"), "{}", line.text);
    CANCELLED.open();
    soon(log.until("an activity that did not stop has ended instance=ignores-its-cancellation")).await;
    runtime.shutdown().await.unwrap();
}

#[activity(name = "ending-panics", retry(max_attempts = 3, initial_interval = "1ms"))]
async fn panics() -> duroxide::Result<()> {
    panic!("again")
}

#[activity(name = "ending-returns-much")]
async fn returns_much() -> duroxide::Result<String> {
    Ok("x".repeat(3 << 20))
}

#[orchestration(name = "ending-panics-at-once")]
async fn panics_at_once(ctx: OrchestrationContext) -> duroxide::Result<()> {
    drop(ctx);
    panic!("at once")
}

#[orchestration(name = "ending-collects-errors")]
async fn collects_errors(ctx: OrchestrationContext) -> duroxide::Result<Vec<String>> {
    let panicked = panics::call(&ctx).await.unwrap_err();
    let rejected = returns_much::call(&ctx).await.unwrap_err();
    let child = panics_at_once::call(&ctx).await.unwrap_err();
    Ok(vec![panicked.to_string(), rejected.to_string(), child.to_string()])
}

#[tokio::test]
async fn call_errors_name_the_function_and_the_attempts() {
    let runtime = on(MemoryProvider::new()).start().await.unwrap();
    let handle = collects_errors::start(&runtime.client(), "errors").await.unwrap();
    let errors = soon(handle.result()).await.unwrap();
    let starts = |n: usize, start: &str| assert!(errors[n].starts_with(start), "{}", errors[n]);
    starts(0, "panicked: activity \"ending-panics\", 3 attempts: ");
    starts(1, "rejected: activity \"ending-returns-much\": the output");
    starts(2, "panicked: orchestration \"ending-panics-at-once\": ");
    let history = handle.history().await.unwrap();
    assert_eq!(duroxide::testing::check_history(&duroxide::Registry::discover(), &history), Ok(()), "{history:?}");
    runtime.shutdown().await.unwrap();
}
