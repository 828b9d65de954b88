//! Instances that an operator pauses, and delayed work that is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::client::{Action, Note, Untyped, WhyState};
use duroxide::clock::Clock;
use duroxide::prelude::*;
use duroxide::testing::TestRuntime;
use duroxide::{ErrorCode, RuntimeOptions};

use super::{builder, started};

#[event(name = "pauses-go")]
struct Go {
    word: String,
}

#[activity(name = "pauses-work")]
async fn work(runs: State<Arc<AtomicU32>>) -> duroxide::Result<u32> {
    Ok(runs.fetch_add(1, Ordering::Relaxed))
}

#[orchestration(name = "pauses-flow")]
async fn flow(ctx: OrchestrationContext) -> duroxide::Result<String> {
    let Go { word } = ctx.event().await;
    work::call(&ctx).await?;
    Ok(word)
}

#[orchestration(name = "pauses-nap")]
async fn nap(ctx: OrchestrationContext) -> duroxide::Result<Timestamp> {
    ctx.sleep(hours(1)).await;
    Ok(ctx.now())
}

#[activity(name = "pauses-flaky", retry(max_attempts = 3, initial_interval = "1h"))]
async fn flaky(ctx: ActivityContext) -> duroxide::Result<u32> {
    if ctx.attempt() == 1 { Err(duroxide::Error::new("not yet")) } else { Ok(ctx.attempt()) }
}

#[orchestration(name = "pauses-retries")]
async fn retries(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(flaky::call(&ctx).await?)
}

async fn is_paused<O: Orchestration>(handle: &Handle<O>) -> bool {
    let status = handle.status().await.unwrap();
    let code = status.suspension.map(|suspension| suspension.code);
    (status.status, code) == (InstanceStatus::Suspended, Some(ErrorCode::Paused))
}

#[tokio::test]
async fn paused_instance_waits_until_it_is_resumed() {
    let test = started().await;
    let handle = flow::start(&test.client(), "held").await.unwrap();
    crate::settled(&test).await;
    let client = test.client().with_note(Note::by("ana"));
    let ana = client.handle("held");
    ana.suspend("gateway migration").await.unwrap();
    let status = handle.status().await.unwrap();
    assert_eq!(status.status, InstanceStatus::Suspended);
    let suspension = status.suspension.unwrap();
    assert_eq!((suspension.code, suspension.message.as_str()), (ErrorCode::Paused, "gateway migration"));
    let pause = suspension.pause.unwrap();
    assert_eq!((pause.by.as_deref(), pause.until), (Some("ana"), None));
    let why = client.why("held").await.unwrap();
    assert_eq!((why.state, why.actions.first()), (WhyState::Paused, Some(&Action::Resume)));
    assert!(why.text.starts_with("Paused by ana 0 ms ago: \"gateway migration\""), "{why}");

    handle.raise(Go { word: "late".to_owned() }).await.unwrap();
    test.sleep(hours(1)).await;
    assert!(is_paused(&handle).await);
    assert_eq!(handle.history().await.unwrap().len(), 2, "no turn was made");
    handle.resume().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "late");
    assert!(ana.suspend("too late").await.unwrap_err().is_finished());
    assert!(client.handle("none").suspend("nothing").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn pause_ends_at_its_time() {
    let test = started().await;
    let client = test.client();
    let handle = nap::start(&client, "napping").await.unwrap();
    crate::settled(&test).await;
    let until = client.now() + hours(4);
    handle.suspend("until noon").until(until).await.unwrap();
    let woke = handle.result().await.unwrap();
    assert!(woke >= until && woke < until + hours(1), "{woke}: the timer was due during the pause");
}

#[tokio::test]
async fn new_build_does_not_resume_a_paused_instance() {
    let test = builder().build_id("1").start().await.unwrap();
    let handle = flow::start(&test.client(), "kept").await.unwrap();
    crate::settled(&test).await;
    handle.suspend("held").await.unwrap();
    let test = test.crash().build_id("2").start().await.unwrap();
    let handle = test.client().handle("kept");
    handle.raise_named("pauses-go", &serde_json::json!({"word": "on"})).await.unwrap();
    test.sleep(hours(1)).await;
    assert!(is_paused(&handle).await);
    handle.resume().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "on");
}

#[tokio::test]
async fn paused_instance_is_cancelled_and_terminated() {
    let test = started().await;
    let client = test.client();
    for id in ["to cancel", "to terminate"] {
        flow::start(&client, id).await.unwrap();
        crate::settled(&test).await;
        client.handle(id).suspend("held").await.unwrap();
    }
    let cancelled = client.handle("to cancel");
    cancelled.cancel("no").await.unwrap();
    test.sleep(minutes(1)).await;
    assert!(is_paused(&cancelled).await, "the request waits, like all messages");
    cancelled.resume().await.unwrap();
    assert_eq!(cancelled.wait().await.unwrap(), InstanceStatus::Cancelled);
    let terminated = client.handle("to terminate");
    terminated.terminate("no").await.unwrap();
    assert_eq!(terminated.status().await.unwrap().status, InstanceStatus::Terminated);
}

#[orchestration(name = "pauses-busy")]
async fn busy(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let mut sum = 0;
    for _ in 0..30 {
        sum += work::call(&ctx).await.map(|_| 1)?;
        ctx.sleep(seconds(1)).await;
    }
    Ok(sum)
}

#[tokio::test]
async fn instance_is_paused_at_any_moment_without_a_loss() {
    let test = started().await;
    let client = test.client();
    let handle = busy::start(&client, "busy").await.unwrap();
    for n in 0..20 {
        let until = client.now() + seconds(1);
        handle.suspend(format!("pause {n}")).until(until).await.unwrap();
        // The node gets time for a part of its work.
        tokio::task::yield_now().await;
        if n % 2 == 0 {
            handle.resume().await.unwrap();
        }
        test.sleep(std::time::Duration::from_millis(700)).await;
    }
    assert_eq!(handle.result().await.unwrap(), 30);
}

async fn waits_for_an_attempt(test: &TestRuntime, id: &str) -> Handle<Untyped> {
    let client = test.client();
    retries::start(&client, id).await.unwrap();
    crate::settled(test).await;
    assert_eq!(client.inspect(id).await.unwrap().activities.failed.len(), 1);
    client.handle(id)
}

#[tokio::test]
async fn woken_activity_begins_its_next_attempt() {
    let test = started().await;
    let handle = waits_for_an_attempt(&test, "woken").await;
    let why = test.client().why("woken").await.unwrap();
    assert_eq!((why.state, why.actions.first()), (WhyState::BackingOff, Some(&Action::Wake)));
    let begun = test.clock().now();
    assert!(handle.wake().await.unwrap());
    assert_eq!(handle.result().await.unwrap(), 2);
    assert!(test.clock().now() < begun + minutes(1));
    assert!(handle.wake().await.unwrap_err().is_finished());

    let call = waits_for_an_attempt(&test, "one call").await;
    assert!(!call.wake_call(duroxide::id::CallId(9)).await.unwrap());
    let open = test.client().inspect("one call").await.unwrap().activities.open;
    assert!(call.wake_call(open[0].call).await.unwrap());
    assert_eq!(call.result().await.unwrap(), 2);
}

#[tokio::test]
async fn woken_start_begins_at_once() {
    let test = started().await;
    let client = test.client();
    let begun = test.clock().now();
    let handle = nap::start(&client, "delayed").delay(days(1)).await.unwrap();
    assert!(handle.wake().await.unwrap());
    assert!(handle.result().await.unwrap() < begun + hours(2));
    // The event makes it live before its start is due.
    let handle = flow::start(&client, "early event").delay(days(1)).await.unwrap();
    handle.raise(Go { word: "early".to_owned() }).await.unwrap();
    test.sleep(minutes(1)).await;
    assert!(handle.wake().await.unwrap());
    assert_eq!(handle.result().await.unwrap(), "early");
    assert!(test.clock().now() < begun + hours(3));
}

#[tokio::test]
async fn cause_of_a_pause_has_no_message_if_causes_have_none() {
    let options = RuntimeOptions::new().cause_messages(false);
    let test = builder().options(options).start().await.unwrap();
    let handle = flow::start(&test.client(), "secret").await.unwrap();
    let cause = async || handle.status().await.unwrap().cause.unwrap();
    handle.suspend("a secret").await.unwrap();
    assert_eq!(cause().await, "DUR0010");
    let other = Client::shared(test.store()).with_clock(test.clock().clone());
    other.handle("secret").suspend("gateway migration").await.unwrap();
    assert_eq!(cause().await, "DUR0010: gateway migration");
    other.with_cause_messages(false).handle("secret").suspend("a secret").await.unwrap();
    assert_eq!(cause().await, "DUR0010");
}
