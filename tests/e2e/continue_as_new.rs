//! Continue-as-new.

use duroxide::prelude::*;

#[event]
struct Number {
    n: u32,
}

#[orchestration]
async fn sums(ctx: OrchestrationContext, left: u32, sum: u64) -> duroxide::Result<u64> {
    if left == 0 {
        return Ok(sum);
    }
    let event = ctx.event::<Number>().await;
    sums::continue_as_new(&ctx, left - 1, sum * 10 + u64::from(event.n)).await
}

#[tokio::test]
async fn unread_events_survive_in_order() {
    let test = crate::started().await;
    let handle = sums::start(&test.client(), "sums", 9, 0).await.unwrap();
    for n in 1..=9 {
        handle.raise(Number { n }).await.unwrap();
    }
    assert_eq!(handle.result().await.unwrap(), 123_456_789);
    assert_eq!(handle.status().await.unwrap().execution.number, 10);
    assert!(!handle.history_of(3).await.unwrap().is_empty(), "old executions keep their history");
}

#[orchestration]
async fn day(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(days(1)).await;
    Ok(())
}

#[orchestration]
async fn restless(ctx: OrchestrationContext, left: u32) -> duroxide::Result<u32> {
    let child = day::call(&ctx).start();
    let timer = ctx.sleep(days(7)).start();
    ctx.sleep(hours(1)).await;
    if left > 0 {
        return restless::continue_as_new(&ctx, left - 1).await;
    }
    drop(timer);
    child.await?;
    Ok(ctx.execution().number as u32)
}

#[tokio::test]
async fn children_never_collide_and_timers_end_with_their_execution() {
    let test = crate::started().await;
    let begin = duroxide::Clock::now(test.clock());
    let handle = restless::start(&test.client(), "restless", 20).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 21);
    assert_eq!(duroxide::Clock::now(test.clock()).since(begin), hours(20 + 24));
}
