//! Cancelling and terminating.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::OutcomeError;
use duroxide::clock::Clock;
use duroxide::prelude::*;
use duroxide::testing::TestRuntime;
use support::until_execution;

use crate::runtime::{Gate, waits_at_gate};

#[orchestration]
async fn waits(ctx: OrchestrationContext) -> duroxide::Result<()> {
    std::future::pending::<()>().await;
    drop(ctx);
    Ok(())
}

#[orchestration]
async fn sleeps(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(std::time::Duration::MAX).await;
    Ok(())
}

#[tokio::test]
async fn cancel_ends_an_orchestration_that_ignores_it() {
    let test = crate::started().await;
    let handle = sleeps::start(&test.client(), "sleeps").await.unwrap();
    handle.cancel("not needed").await.unwrap();
    match handle.result().await {
        Err(OutcomeError::Cancelled { reason }) => assert_eq!(reason, "not needed"),
        other => panic!("{other:?}"),
    }
}

#[activity]
async fn undo(State(undone): State<Arc<AtomicU32>>) -> duroxide::Result<()> {
    undone.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

#[orchestration]
async fn compensates(ctx: OrchestrationContext) -> duroxide::Result<String> {
    select! {
        reason = ctx.cancelled() => {
            undo::call(&ctx).await?;
            Ok(format!("undone: {reason}"))
        }
        () = ctx.sleep(std::time::Duration::MAX) => Ok("slept".to_owned()),
    }
}

#[tokio::test]
async fn cancelled_orchestration_can_compensate() {
    let undone = Arc::new(AtomicU32::new(0));
    let test = crate::builder().state(undone.clone()).start().await.unwrap();
    let handle = compensates::start(&test.client(), "compensates").await.unwrap();
    handle.cancel("changed my mind").await.unwrap();
    handle.cancel("twice changes nothing").await.unwrap_or(());
    assert_eq!(handle.result().await.unwrap(), "undone: changed my mind");
    assert_eq!(undone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn terminate_ends_running_suspended_and_unclaimed_instances() {
    let test = crate::started().await;
    let sleeping = sleeps::start(&test.client(), "sleeping").await.unwrap();
    let suspended = waits::start(&test.client(), "suspended").await.unwrap();
    suspended.wait_for(|status| status.suspension.is_some()).await.unwrap();
    let unknown = test.client().start("unregistered", "unknown", &()).await.unwrap();
    for handle in [test.client().handle("sleeping"), test.client().handle("suspended"), unknown] {
        handle.terminate("stop").await.unwrap();
        match handle.result().await {
            Err(OutcomeError::Terminated { reason }) => assert_eq!(reason, "stop"),
            other => panic!("{other:?}"),
        }
    }
    let history = sleeping.history().await.unwrap();
    assert_eq!(duroxide::testing::check_history(&duroxide::Registry::discover(), &history), Ok(()), "{history:?}");
}

#[event]
struct Stop;

#[orchestration]
async fn drops_call_on_stop(ctx: OrchestrationContext) -> duroxide::Result<bool> {
    select! {
        _ = waits_at_gate::call(&ctx) => Ok(false),
        Stop = ctx.event::<Stop>() => Ok(true),
    }
}

#[tokio::test]
async fn dropped_call_drops_the_future_of_its_activity() {
    let gate = Gate::default();
    let test = crate::builder().state(gate.clone()).start().await.unwrap();
    let handle = drops_call_on_stop::start(&test.client(), "drops its call").await.unwrap();
    gate.until_arrived(1).await;
    handle.raise(Stop).await.unwrap();
    assert!(handle.result().await.unwrap());
    gate.until_left(1).await;
}

#[orchestration]
async fn never_waits(ctx: OrchestrationContext, round: u64) -> duroxide::Result<()> {
    never_waits::continue_as_new(&ctx, round + 1).await
}

#[orchestration]
async fn asks_each_round(ctx: OrchestrationContext, round: u64) -> duroxide::Result<String> {
    match ctx.cancel_requested() {
        Some(reason) => Ok(reason),
        None => asks_each_round::continue_as_new(&ctx, round + 1).await,
    }
}

/// Returns a client in another process.
fn elsewhere(test: &TestRuntime) -> Client {
    Client::shared(test.store()).with_clock(test.clock().clone())
}

/// Waits until an instance has continued as new.
async fn continued<O>(handle: &Handle<O>) {
    until_execution(handle, 3).await;
}

#[tokio::test]
async fn cancel_reaches_an_instance_that_never_waits() {
    let test = crate::started().await;
    for other_process in [false, true] {
        let client = if other_process { elsewhere(&test) } else { test.client() };
        let id = |name: &str| format!("{name} {other_process}");
        let handle = never_waits::start(&client, id("deaf"), 0).await.unwrap();
        continued(&handle).await;
        handle.cancel("enough").await.unwrap();
        assert!(matches!(handle.result().await, Err(OutcomeError::Cancelled { reason }) if reason == "enough"));
        let handle = asks_each_round::start(&client, id("asks"), 0).await.unwrap();
        continued(&handle).await;
        handle.cancel("enough").await.unwrap();
        assert_eq!(handle.result().await.unwrap(), "enough");
    }
}

#[tokio::test]
async fn termination_reaches_an_instance_that_never_waits() {
    let test = crate::started().await;
    for n in 0..50 {
        let handle = never_waits::start(&test.client(), format!("restless {n}"), 0).await.unwrap();
        continued(&handle).await;
        handle.terminate("enough").await.unwrap();
        assert!(matches!(handle.result().await, Err(OutcomeError::Terminated { .. })));
    }
}

#[event(name = "cancelled-tick")]
struct Tick;

#[orchestration]
async fn reads_one_tick(ctx: OrchestrationContext, round: u64) -> duroxide::Result<()> {
    let Tick = ctx.event::<Tick>().await;
    reads_one_tick::continue_as_new(&ctx, round + 1).await
}

#[tokio::test]
async fn cancel_does_not_wait_behind_carried_events() {
    let test = crate::started().await;
    let handle = reads_one_tick::start(&test.client(), "ticks", 0).await.unwrap();
    for _ in 0..300 {
        handle.raise(Tick).await.unwrap();
    }
    let before = handle.status().await.unwrap().execution.number;
    handle.cancel("enough").await.unwrap();
    assert!(matches!(handle.result().await, Err(OutcomeError::Cancelled { .. })));
    let after = handle.status().await.unwrap().execution.number;
    assert!(after < before + 30, "the cancel overtakes the events: from execution {before} to {after}");
}

#[orchestration]
async fn begins_with_an_effect(ctx: OrchestrationContext) -> duroxide::Result<()> {
    undo::call(&ctx).detached().await?;
    Ok(undo::call(&ctx).await?)
}

#[tokio::test]
async fn delayed_start_is_cancelled_at_once_without_its_body() {
    let count = Arc::new(AtomicU32::new(0));
    let test = crate::builder().state(count.clone()).start().await.unwrap();
    for (n, delay) in [days(1), std::time::Duration::MAX].into_iter().enumerate() {
        for other_process in [false, true] {
            let client = if other_process { elsewhere(&test) } else { test.client() };
            let id = format!("delayed {n} {other_process}");
            let handle = begins_with_an_effect::start(&client, id).delay(delay).await.unwrap();
            let begun = test.clock().now();
            handle.cancel("not needed").await.unwrap();
            assert!(matches!(handle.result().await, Err(OutcomeError::Cancelled { .. })));
            assert_eq!(test.clock().now(), begun, "no time has passed");
            let events: Vec<_> = handle.history().await.unwrap();
            assert_eq!(events.len(), 2, "its start and its end");
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}
