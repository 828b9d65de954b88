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

#[event]
struct Go;

#[orchestration]
async fn hands_on(ctx: OrchestrationContext, left: u32) -> duroxide::Result<Vec<u32>> {
    if left > 0 {
        // Whatever has come by now is unread or not even delivered when the next execution begins.
        ctx.event::<Go>().await;
        return hands_on::continue_as_new(&ctx, left - 1).await;
    }
    ctx.event::<Go>().await;
    Ok(ctx.drain::<Number>().into_iter().map(|event| event.n).collect())
}

#[tokio::test]
async fn events_that_were_read_and_not_taken_stay_before_those_that_were_not_read() {
    let test = crate::started().await;
    let handle = hands_on::start(&test.client(), "hands on", 5).delay(hours(1)).await.unwrap();
    for n in 0..30 {
        handle.raise(Number { n }).await.unwrap();
        if n % 5 == 4 {
            handle.raise(Go).await.unwrap();
        }
    }
    assert_eq!(handle.result().await.unwrap(), (0..30).collect::<Vec<_>>());
}

#[orchestration]
async fn looks_late(ctx: OrchestrationContext, again: bool) -> duroxide::Result<String> {
    let cancelled = ctx.cancelled();
    ctx.sleep(hours(1)).await;
    if again {
        return looks_late::continue_as_new(&ctx, false).await;
    }
    Ok(cancelled.await)
}

#[tokio::test]
async fn a_cancel_that_nobody_has_looked_at_goes_on_to_the_next_execution() {
    let test = crate::started().await;
    let handle = looks_late::start(&test.client(), "looks late", true).await.unwrap();
    while handle.status().await.unwrap().events.0 < 2 {
        tokio::task::yield_now().await;
    }
    handle.cancel("early").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "early");
}
