//! An annotated function that an orchestration calls as a function is reported; elsewhere it is an ordinary function.

use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::error::{ErrorCode, Suspension};
use duroxide::prelude::*;

/// The input of the calls that must not run.
const SLIP: u32 = 1000;

/// The number of times that the body of [`slow`] or [`slow_blocking`] has run with the input [`SLIP`].
static SLIPS: AtomicU32 = AtomicU32::new(0);

#[activity]
async fn slow(n: u32) -> duroxide::Result<u32> {
    #![allow(clippy::arithmetic_side_effects)]
    SLIPS.fetch_add(u32::from(n == SLIP), Ordering::Relaxed);
    Ok(n + 1)
}

#[activity(name = "slow-blocking", handle = Slowly)]
fn slow_blocking(mut n: u32) -> duroxide::Result<u32> {
    SLIPS.fetch_add(u32::from(n == SLIP), Ordering::Relaxed);
    n += 1;
    if n == 0 {
        return Err(duroxide::Error::new("zero"));
    }
    Ok(u32::try_from(u64::from(n))?)
}

#[activity]
async fn calls_others(n: u32) -> duroxide::Result<u32> {
    slow_blocking(slow(n).await?)
}

#[orchestration]
async fn adds_two(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    let first = slow::call(&ctx, n).await?;
    Ok(Slowly::call(&ctx, first).await?)
}

#[orchestration]
async fn slips(ctx: OrchestrationContext, kind: String) -> duroxide::Result<u32> {
    if kind == "at once" {
        return slow(SLIP).await;
    }
    ctx.sleep(hours(1)).await;
    let kept = async { Ok(Slowly::call(&ctx, 1).await?) };
    match kind.as_str() {
        "async" => slow(SLIP).await,
        "among others" => {
            let (first, _) = join!(kept, slow(SLIP));
            first
        }
        "blocking" => slow_blocking(SLIP),
        "caught" => std::panic::catch_unwind(|| slow_blocking(SLIP)).unwrap_or(Ok(0)),
        "orchestration" => adds_two(ctx.clone(), SLIP).await,
        other => Err(duroxide::Error::new(other)),
    }
}

async fn suspension(kind: &str) -> Suspension {
    let test = crate::started().await;
    let handle = slips::start(&test.client(), "slips", kind.to_owned()).await.unwrap();
    test.advance(hours(2));
    let status = handle.wait_for(|status| status.suspension.is_some() || status.status.is_finished()).await.unwrap();
    let suspension = status.suspension.unwrap_or_else(|| panic!("{kind}: {:?}", status.status));
    assert_eq!(suspension.code, ErrorCode::DirectCall, "{kind}: {suspension}");
    assert!(suspension.message.contains("orchestration `slips` 1.0.0 (tests/e2e/direct_calls.rs:"), "{suspension}");
    assert!(suspension.place.as_ref().is_some_and(|place| place.contains("direct_calls.rs:")), "{suspension}");
    suspension
}

#[tokio::test]
async fn activity_called_as_a_function_suspends_with_its_name() {
    for (kind, name, remedy) in [
        ("at once", "activity \"slow\"", "`slow::call(&ctx, ..)`"),
        ("async", "activity \"slow\"", "`slow::call(&ctx, ..)`"),
        ("among others", "activity \"slow\"", "`slow::call(&ctx, ..)`"),
        ("blocking", "activity \"slow-blocking\"", "`Slowly::call(&ctx, ..)`"),
        ("caught", "activity \"slow-blocking\"", "`Slowly::call(&ctx, ..)`"),
        ("orchestration", "orchestration \"adds_two\"", "`adds_two::call(&ctx, ..)`"),
    ] {
        let suspension = suspension(kind).await;
        assert!(suspension.message.contains(name) && suspension.message.contains(remedy), "{kind}: {suspension}");
    }
    assert_eq!(SLIPS.load(Ordering::Relaxed), 0, "a body has run");
}

#[tokio::test]
async fn direct_call_of_a_blocking_activity_shows_its_place() {
    let line = include_str!("direct_calls.rs").lines().position(|line| line.contains("\"blocking\" => slow")).unwrap();
    let place = suspension("blocking").await.place.unwrap();
    assert!(place.contains(&format!("direct_calls.rs:{}:", line + 1)), "{place}");
}

#[tokio::test]
async fn activity_is_an_ordinary_function_outside_of_turns() {
    assert_eq!((slow(1).await.unwrap(), slow_blocking(1).unwrap()), (2, 2));
    let test = crate::started().await;
    let called = test.client().start("calls_by_name", "by name", &"calls_others").await.unwrap();
    assert_eq!(called.result_as::<u32, duroxide::Error>().await.unwrap(), 3);
    let handle = adds_two::start(&test.client(), "adds", 1).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 3);
}

#[orchestration]
async fn calls_by_name(ctx: OrchestrationContext, name: String) -> duroxide::Result<u32> {
    ctx.call_activity(&name, &1).await.map_err(duroxide::Error::new)
}

/// Returns the line that it is called from.
#[track_caller]
fn line() -> u32 {
    std::panic::Location::caller().line()
}

#[activity]
fn own_lines() -> duroxide::Result<[u32; 2]> {
    Ok([line!(), line()])
}

#[test]
fn places_in_a_blocking_activity_are_its_own() {
    let [expected, shown] = own_lines().unwrap();
    assert_eq!(shown, expected);
}
