//! Cancelling and terminating.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::OutcomeError;
use duroxide::prelude::*;

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

struct CountOnDrop(Arc<AtomicU32>);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[activity]
async fn hangs(State(count): State<Arc<AtomicU32>>) -> duroxide::Result<()> {
    count.fetch_add(1, Ordering::SeqCst);
    let _count = CountOnDrop(count);
    std::future::pending().await
}

#[event]
struct Stop;

#[orchestration]
async fn drops_call_on_stop(ctx: OrchestrationContext) -> duroxide::Result<bool> {
    select! {
        _ = hangs::call(&ctx) => Ok(false),
        Stop = ctx.event::<Stop>() => Ok(true),
    }
}

#[tokio::test]
async fn dropped_call_drops_the_future_of_its_activity() {
    let count = Arc::new(AtomicU32::new(0));
    let test = crate::builder().state(count.clone()).start().await.unwrap();
    let handle = drops_call_on_stop::start(&test.client(), "drops its call").await.unwrap();
    while count.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    handle.raise(Stop).await.unwrap();
    assert!(handle.result().await.unwrap());
    while count.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
}
