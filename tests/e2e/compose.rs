//! Durable calls are ordinary futures: they compose in the forms in which Rust futures usually do.

use duroxide::prelude::*;
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};

/// Returns its input, or fails if that is odd and above 100.
#[activity]
async fn even(n: u32) -> duroxide::Result<u32> {
    if n > 100 && n % 2 == 1 { Err(duroxide::Error::new(format!("{n} is odd"))) } else { Ok(n) }
}

#[orchestration]
async fn joins(ctx: OrchestrationContext, numbers: Vec<u32>) -> duroxide::Result<Vec<u32>> {
    let by_reference = join_all(numbers.iter().map(|n| even::call(&ctx, *n))).await;
    let by_pattern = join_all(numbers.iter().map(|&n| even::call(&ctx, n).timeout(minutes(1)))).await;
    let by_block = join_all(numbers.iter().map(async |n| even::call(&ctx, *n).await)).await;
    let owned = join_all(numbers.clone().into_iter().map(|n| even::call(&ctx, n))).await;
    let filtered = join_all(numbers.iter().filter(|n| **n > 1).map(|n| even::call(&ctx, *n))).await;
    let indexed = join_all(numbers.iter().enumerate().map(|(i, _)| even::call(&ctx, numbers[i]))).await;
    assert!(by_reference == by_pattern && by_pattern == by_block && by_block == owned && owned == indexed);
    assert_eq!(filtered.len(), numbers.iter().filter(|n| **n > 1).count());
    Ok(try_join_all(numbers.iter().map(|n| even::call(&ctx, *n))).await?)
}

#[orchestration]
async fn earliest(ctx: OrchestrationContext, hours_of: Vec<u64>) -> duroxide::Result<usize> {
    let (winner, ()) = race(hours_of.iter().map(|n| ctx.sleep(hours(*n)))).await;
    Ok(winner)
}

/// A stream holds the closure of its iterator while it is awaited. rustc can prove that such a future is `Send` only if
/// the closure takes owned values, so references are copied first, or the calls collected.
#[orchestration]
async fn streams(ctx: OrchestrationContext, numbers: Vec<u32>) -> duroxide::Result<Vec<u32>> {
    let copied = stream::iter(numbers.iter().copied().map(|n| even::call(&ctx, n)));
    let mut all: Vec<_> = copied.buffered(2).try_collect().await?;
    let collected: Vec<_> = numbers.iter().map(|n| even::call(&ctx, *n)).collect();
    all.extend(stream::iter(collected).buffered(2).try_collect::<Vec<_>>().await?);
    let mut unordered = stream::iter(numbers.clone()).map(|n| even::call(&ctx, n)).buffer_unordered(2);
    while let Some(done) = unordered.next().await {
        all.push(done?);
    }
    let mut calls: FuturesUnordered<_> = numbers.iter().map(|n| even::call(&ctx, *n)).collect();
    while let Some(done) = calls.next().await {
        all.push(done?);
    }
    all.sort_unstable();
    Ok(all)
}

/// Doubles a number in two steps.
async fn doubled(ctx: &OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    let half = even::call(ctx, n).await?;
    Ok(half + even::call(ctx, n).await?)
}

#[orchestration]
async fn nests(ctx: OrchestrationContext, numbers: Vec<u32>) -> duroxide::Result<Vec<u32>> {
    let ((first, twice), rest) = join!(
        async { join!(even::call(&ctx, numbers[0]), doubled(&ctx, numbers[0])) },
        try_join_all(numbers[1..].iter().map(|n| doubled(&ctx, *n))),
    );
    let (third, by_helper) = futures_util::future::join(
        even::call(&ctx, 3),
        join_all(numbers.iter().map(async |n| race([even::call(&ctx, *n), even::call(&ctx, *n)]).await.1)),
    )
    .await;
    let mut all = vec![first?, twice?, third?];
    all.extend(rest?);
    for n in by_helper {
        all.push(n?);
    }
    Ok(all)
}

#[event]
struct Nudge;

/// Counts the nudges that come before a slow chain of calls has ended.
#[orchestration]
async fn looped(ctx: OrchestrationContext, n: u32) -> duroxide::Result<(u32, u32)> {
    let chain = async {
        ctx.sleep(hours(2)).await;
        doubled(&ctx, n).await
    };
    let mut chain = std::pin::pin!(chain);
    let mut deadline = ctx.sleep(days(1));
    let mut nudges = 0;
    loop {
        select! {
            done = &mut chain => return Ok((done?, nudges)),
            Nudge = ctx.event::<Nudge>() => nudges += 1,
            () = &mut deadline => return Err(duroxide::Error::new("too late")),
        }
    }
}

#[orchestration]
async fn limited(ctx: OrchestrationContext, wait: u64) -> duroxide::Result<Option<u32>> {
    let slow = async {
        ctx.sleep(hours(wait)).await;
        even::call(&ctx, 4).timeout(minutes(1)).await
    };
    select! {
        done = slow => Ok(Some(done?)),
        () = ctx.sleep(hours(2)) => Ok(None),
    }
}

#[tokio::test]
async fn calls_of_an_iterator_over_references_are_joined() {
    let test = crate::started().await;
    let handle = joins::start(&test.client(), "joins", vec![1, 2, 3]).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2, 3]);
    let handle = joins::start(&test.client(), "fails", vec![2, 101, 103]).await.unwrap();
    assert!(handle.result().await.unwrap_err().to_string().contains("101 is odd"));
    let handle = earliest::start(&test.client(), "races", vec![3, 1, 2]).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
}

#[tokio::test]
async fn calls_are_buffered_in_streams() {
    let test = crate::started().await;
    let handle = streams::start(&test.client(), "streams", vec![5, 7, 9]).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [5, 5, 5, 5, 7, 7, 7, 7, 9, 9, 9, 9]);
}

#[tokio::test]
async fn combinators_nest() {
    let test = crate::started().await;
    let handle = nests::start(&test.client(), "nested", vec![5, 7]).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [5, 10, 3, 14, 5, 7]);
}

#[tokio::test]
async fn pinned_futures_are_kept_in_a_loop_of_select() {
    let test = crate::started().await;
    let handle = looped::start(&test.client(), "looped", 4).await.unwrap();
    handle.raise(Nudge).await.unwrap();
    handle.raise(Nudge).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), (8, 2));
}

#[tokio::test]
async fn time_limit_around_a_chain_of_calls() {
    let test = crate::started().await;
    let in_time = limited::start(&test.client(), "in time", 1).await.unwrap();
    let too_late = limited::start(&test.client(), "too late", 3).await.unwrap();
    assert_eq!((in_time.result().await.unwrap(), too_late.result().await.unwrap()), (Some(4), None));
}
