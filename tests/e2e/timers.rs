//! Durable timers.

use std::time::Duration;

use duroxide::Timestamp;
use duroxide::clock::Clock;
use duroxide::prelude::*;

#[orchestration]
async fn naps(ctx: OrchestrationContext, n: u32) -> duroxide::Result<Vec<i64>> {
    let begin = ctx.now();
    let mut after = Vec::new();
    for day in 1..=n {
        ctx.sleep(days(u64::from(day))).await;
        after.push(i64::try_from(ctx.now().since(begin).as_secs() / 86_400).unwrap_or(-1));
    }
    Ok(after)
}

#[tokio::test]
async fn timers_of_days_fire_at_the_right_times() {
    let test = crate::started().await;
    let handle = naps::start(&test.client(), "naps", 10).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 3, 6, 10, 15, 21, 28, 36, 45, 55]);
}

#[orchestration]
async fn extremes(ctx: OrchestrationContext) -> duroxide::Result<String> {
    ctx.sleep(Duration::ZERO).await;
    ctx.sleep_until(Timestamp::from_micros(0)).await;
    select! {
        () = ctx.sleep(Duration::MAX) => Ok("the end of time".to_owned()),
        () = ctx.sleep(days(365_000)) => Ok("a thousand years".to_owned()),
    }
}

#[tokio::test]
async fn longest_sleep_does_not_overflow() {
    let test = crate::started().await;
    let handle = test.client().start("extremes", "extremes", &()).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "a thousand years");
}

#[orchestration]
async fn races(ctx: OrchestrationContext) -> duroxide::Result<(usize, u64)> {
    let (winner, ()) = race([hours(3), hours(1), hours(2)].map(|d| ctx.sleep(d))).await;
    let ((), ()) = join!(ctx.sleep(hours(1)), ctx.sleep(hours(5)));
    Ok((winner, ctx.random()))
}

#[tokio::test]
async fn timers_that_lost_a_race_are_removed() {
    let test = crate::started().await;
    let begin = test.clock().now();
    let handle = races::start(&test.client(), "races").await.unwrap();
    assert_eq!(handle.result().await.unwrap().0, 1);
    let passed = test.clock().now().since(begin);
    assert_eq!(passed, hours(6), "timers that lost the race do not advance the clock");
}

#[tokio::test]
async fn delayed_start_keeps_early_events() {
    let test = crate::started().await;
    let begin = test.clock().now();
    let handle = races::start(&test.client(), "late").delay(days(2)).await.unwrap();
    handle.raise_named("early", &1).await.unwrap();
    handle.result().await.unwrap();
    assert_eq!(test.clock().now().since(begin), days(2) + hours(6));
}
