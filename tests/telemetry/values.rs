//! The values of the metrics of nodes, clients and stores.

use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use duroxide::client::StoreMetrics;
use duroxide::id::CallId;
use duroxide::prelude::*;
use duroxide::provider::{Filter, Layered, Measured, MemoryProvider, Note, Page, PageToken};
use duroxide::telemetry::{REQUEST_OPERATIONS, names};
use duroxide::testing::TestRuntime;
use duroxide::{ErrorCode, RuntimeOptions};
use support::recorder::Recorded;
use support::{Fault, Method, faulty};
use tokio::sync::watch;

/// The recorder of this process: nodes have threads of their own, which a recorder of the test's thread does not see. So
/// each test has names of its own.
fn recorded() -> &'static Recorded {
    static RECORDED: LazyLock<Arc<Recorded>> = LazyLock::new(|| {
        let recorded = Arc::new(Recorded::default());
        metrics::set_global_recorder(recorded.clone()).expect("the only recorder of this process");
        recorded
    });
    &RECORDED
}

async fn started(options: RuntimeOptions) -> TestRuntime {
    recorded();
    TestRuntime::builder().options(options).start().await.unwrap()
}

#[event(name = "values-go")]
struct Go {}

#[activity(name = "values-charge", retry(max_attempts = 2, initial_interval = "5s"))]
async fn charge(ctx: ActivityContext) -> duroxide::Result<()> {
    if ctx.attempt() == 1 { Err(duroxide::Error::new("busy")) } else { Ok(()) }
}

/// Its history: 1 started, 2 waits, 3 the event, 4 schedules, 5 completed, 6 timer, 7 fired, 8 completed.
#[orchestration(name = "values-order")]
async fn order(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let Go {} = ctx.event().await;
    charge::call(&ctx).await?;
    ctx.sleep(minutes(1)).await;
    Ok(())
}

#[tokio::test]
async fn order_is_measured() {
    let test = started(RuntimeOptions::new()).await;
    let handle = order::start(&test.client(), "order").await.unwrap();
    test.sleep(Duration::from_secs(30)).await;
    handle.raise(Go {}).await.unwrap();
    test.sleep(Duration::from_secs(10)).await;
    // The timer is 25 s late, or more: the interval of the retry varies.
    test.advance(Duration::from_secs(90));
    handle.result().await.unwrap();

    // The instance has ended before its node has the answer of its commit.
    test.shutdown().await.unwrap();
    let (of, by_name) = (recorded(), [("name", "values-order")]);
    assert_eq!(of.counter(names::ORCHESTRATION_STARTS, &by_name), 1);
    assert_eq!(of.counter(names::EVENTS, &by_name), 1);
    assert_eq!(of.histogram(names::ORCHESTRATION_DURATION, &by_name), [130.0]);
    assert_eq!(of.histogram(names::ORCHESTRATION_HISTORY, &by_name), [8.0]);
    let turns = of.histogram(names::TURN_DURATION, &by_name);
    assert!(turns.len() == 4 && turns.iter().all(|time| (0.0..10.0).contains(time)), "{turns:?}");
    let late = of.histogram(names::TIMER_LATENESS, &[]);
    assert!(late.iter().any(|late| (24.0..36.0).contains(late)), "{late:?}");

    let by_name = [("name", "values-charge")];
    assert_eq!(of.counter(names::ACTIVITY_ATTEMPTS, &by_name), 2);
    let outcomes = of.by_label(names::ACTIVITY_OUTCOMES, "outcome");
    assert!(outcomes["failed"] >= 1 && outcomes["completed"] >= 1, "{outcomes:?}");
    assert_eq!(of.counter(names::ACTIVITY_RETRIES, &by_name), 1);
    let durations = of.histogram(names::ACTIVITY_DURATION, &by_name);
    assert!(durations.len() == 2 && durations.iter().all(|time| (0.0..10.0).contains(time)), "{durations:?}");
    assert_eq!(of.histogram(names::ACTIVITY_QUEUE, &by_name), [0.0]);
}

#[activity(name = "values-print")]
async fn print(_pages: u32) -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "values-ship")]
async fn ship(ctx: OrchestrationContext) -> duroxide::Result<()> {
    Ok(print::call(&ctx, 1).tag("warehouse").await?)
}

#[orchestration(name = "values-misprint")]
async fn misprint(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.call_activity(print::NAME, "one page").await.map_err(duroxide::Error::new)
}

#[tokio::test]
async fn queues_and_takeovers_are_measured() {
    recorded();
    let test = TestRuntime::builder().tags(["office"]).start().await.unwrap();
    let client = test.client();
    ship::start(&client, "ship").await.unwrap();
    misprint::start(&client, "misprint").await.unwrap();
    test.sleep(hours(1)).await;
    StoreMetrics::new(client).update().await.unwrap();
    let queue = |state| recorded().gauge(names::QUEUE, &[("name", "values-print"), ("state", state)]);
    let age = recorded().gauge(names::QUEUE_AGE, &[("name", "values-print"), ("tag", "warehouse")]);
    assert_eq!((queue("waiting"), queue("parked"), age), (Some(1.0), Some(1.0), Some(3600.0)));
    let active = |state| recorded().gauge(names::ACTIVE, &[("name", "values-misprint"), ("state", state)]);
    assert_eq!((active("suspended"), active("paused")), (Some(1.0), None));
    let code = ErrorCode::UnreadableActivityInput.as_str();
    assert_eq!(recorded().counter(names::ACTIVITY_PARKED, &[("code", code)]), 1);

    let test = test.crash().tags(["warehouse"]).start().await.unwrap();
    ship::handle(&test.client(), "ship").result().await.unwrap();
    assert_eq!(recorded().histogram(names::ACTIVITY_QUEUE, &[("name", "values-print")]), [0.0, 3600.0]);
    assert_eq!(recorded().counter(names::ORCHESTRATION_TAKEOVERS, &[("name", "values-ship")]), 1);
}

#[orchestration(name = "values-waits")]
async fn waits(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let Go {} = ctx.event().await;
    Ok(())
}

/// True once the activity may return.
static RETURNS: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

#[activity(name = "values-holds")]
async fn holds() -> duroxide::Result<()> {
    RETURNS.subscribe().wait_for(|returns| *returns).await.map(drop).map_err(duroxide::Error::new)
}

#[orchestration(name = "values-held")]
async fn held(ctx: OrchestrationContext) -> duroxide::Result<()> {
    Ok(holds::call(&ctx).await?)
}

#[tokio::test]
async fn node_is_measured() {
    let options = RuntimeOptions::new().max_idle_instances(2).lease_time(Duration::from_secs(3));
    let test = started(options).await;
    let client = test.client();
    let node = client.nodes().await.unwrap().swap_remove(0);
    let (of, id) = (recorded(), node.info.id.to_string());
    let by_node = [("node", id.as_str())];
    for n in 0..3 {
        waits::start(&client, format!("waits-{n}")).await.unwrap();
    }
    test.sleep(Duration::ZERO).await;
    assert_eq!((of.gauge(names::LIVE, &by_node), of.gauge(names::RUNNING, &by_node)), (Some(2.0), Some(0.0)));
    assert_eq!(of.counter(names::EVICTIONS, &by_node), 1);

    let handle = held::start(&client, "held").await.unwrap();
    of.until(|of| of.gauge(names::RUNNING, &by_node) == Some(1.0)).await;
    RETURNS.send_replace(true);
    handle.result().await.unwrap();
    of.until(|of| of.gauge(names::RUNNING, &by_node) == Some(0.0)).await;

    let sizes = of.histogram(names::COMMIT_SIZE, &by_node);
    // Four first turns, and the outcome with the end.
    assert_eq!(sizes.iter().sum::<f64>(), 5.0, "{sizes:?}");
    // The instance has ended before its node has the answer.
    of.until(|of| of.histogram(names::COMMIT_DURATION, &by_node).len() == sizes.len()).await;
    let durations = of.histogram(names::COMMIT_DURATION, &by_node);
    assert!(durations.iter().all(|time| (0.0..10.0).contains(time)), "{durations:?}");

    test.provider().kill(node.epoch);
    of.until(|of| of.counter(names::LOST_LEASES, &by_node) == 1).await;
    test.shutdown().await.unwrap();
    assert_eq!(of.gauge(names::LIVE, &by_node), Some(0.0), "after the end of the node");
}

/// Blocks the turn until its sender is dropped.
static BLOCKED: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);

#[orchestration(name = "values-blocks")]
async fn blocks(_: OrchestrationContext) -> duroxide::Result<()> {
    let closed = BLOCKED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let _ = closed.map(|closed| closed.recv());
    Ok(())
}

#[tokio::test]
async fn turn_that_does_not_return_is_counted() {
    let test = started(RuntimeOptions::new().turn_warning(Duration::from_millis(50))).await;
    let client = test.client();
    let id = client.nodes().await.unwrap()[0].info.id.to_string();
    let (open, closed) = mpsc::channel();
    *BLOCKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(closed);
    let counted = async {
        recorded().until(|of| of.counter(names::STUCK_TURNS, &[("node", &id)]) == 1).await;
        drop(open);
    };
    let run = async { blocks::start(&client, "blocks").await.unwrap().result().await.unwrap() };
    futures_util::future::join(run, counted).await;
}

#[tokio::test]
async fn calls_of_the_storage_are_measured() {
    recorded();
    let provider = faulty(MemoryProvider::new());
    provider.faults().next(Method::Instance, Fault::Before, 1);
    provider.faults().next(Method::Nodes, Fault::Permanent, 1);
    let client = Client::new(Layered(Measured::new(provider)));
    assert!(client.handle("none").status().await.unwrap_err().is_not_found());
    assert!(client.nodes().await.is_err());
    let foreign = Page::new(1).after(PageToken::new("foreign"));
    assert!(client.list(&Filter::default(), foreign).await.is_err());
    let of = recorded();
    let errors = |operation, retryable| {
        of.counter(names::PROVIDER_ERRORS, &[("operation", operation), ("retryable", retryable)])
    };
    assert_eq!((errors("instance", "true"), errors("nodes", "false")), (1, 1));
    assert_eq!((errors("list", "true"), errors("list", "false")), (0, 0), "a token of another storage");
    for operation in ["instance", "nodes", "list"] {
        let times = of.histogram(names::PROVIDER_DURATION, &[("operation", operation)]);
        assert!(!times.is_empty() && times.iter().all(|time| (0.0..10.0).contains(time)), "{operation}: {times:?}");
    }
}

#[tokio::test]
async fn each_request_of_a_client_is_counted() {
    let test = started(RuntimeOptions::new()).await;
    let client = test.client().with_note(Note::by("ana"));
    let handle = waits::start(&client, "requests").await.unwrap();
    // Its first turn is made before it is paused.
    test.sleep(Duration::ZERO).await;
    handle.suspend("held").await.unwrap();
    handle.resume().await.unwrap();
    handle.wake().await.unwrap();
    handle.wake_call(CallId(1)).await.unwrap();
    handle.cancel("no").await.unwrap();
    handle.wait().await.unwrap();
    assert!(handle.drop_message(duroxide::error::UnreadMessage::Queued(duroxide::id::MessageId::new())).await.is_err());
    handle.reset(duroxide::client::CutPoint::Start).await.unwrap();
    // So that the new execution has begun.
    test.sleep(Duration::ZERO).await;
    client.fork("requests", duroxide::client::CutPoint::Start, "requests-2").await.unwrap();
    let fork = client.handle("requests-2");
    fork.raise(Go {}).await.unwrap();
    fork.wait().await.unwrap();
    fork.erase().await.unwrap();
    handle.terminate("no").await.unwrap();
    let export = client.export("requests").await.unwrap();
    handle.delete().await.unwrap();
    client.import(&export).await.unwrap();
    let counted = recorded().by_label(names::REQUESTS, "operation");
    for operation in REQUEST_OPERATIONS {
        assert!(counted.contains_key(*operation), "{operation}: {counted:?}");
    }
    assert!(counted.keys().all(|operation| REQUEST_OPERATIONS.contains(&operation.as_str())), "{counted:?}");
    let outcomes = recorded().by_label(names::REQUESTS, "outcome");
    assert!(outcomes["ok"] > 10 && outcomes.contains_key(ErrorCode::MessageNotFound.as_str()), "{outcomes:?}");
}
