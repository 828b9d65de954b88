//! Problems of the code suspend an instance visibly, and never become its outcome.

use duroxide::clock::Clock;
use duroxide::prelude::*;
use duroxide::provider::InstanceStatus;
use duroxide::{ErrorCode, Registry};

/// An orchestration in two builds. Implemented by hand, since a program cannot register a name twice.
enum Nap<const HOURS: u64> {}

impl<const HOURS: u64> Orchestration for Nap<HOURS> {
    const NAME: &'static str = "nap";
    type Input = ();
    type Output = u64;
    type Error = duroxide::Error;
}

impl<const HOURS: u64> OrchestrationFn for Nap<HOURS> {
    async fn run(ctx: OrchestrationContext, (): ()) -> duroxide::Result<u64> {
        ctx.sleep(hours(HOURS)).await;
        Ok(HOURS)
    }
}

#[tokio::test]
async fn changed_code_suspends_and_the_right_code_resumes() {
    let old = Registry::empty().with_orchestration::<Nap<1>>();
    let new = Registry::empty().with_orchestration::<Nap<2>>();
    let test = crate::builder().registry(old.clone()).build_id("1").start().await.unwrap();
    test.client().start("nap", "x", &()).await.unwrap();
    crate::settled(&test).await;
    let test = test.crash().registry(new).build_id("2").start().await.unwrap();
    test.advance(hours(1));
    let handle = test.client().handle("x");
    let status = handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
    assert_eq!(status.status, InstanceStatus::Suspended);
    let suspension = status.suspension.unwrap();
    assert_eq!(suspension.code, ErrorCode::Nondeterminism);
    let (recorded, asked) = (suspension.recorded.unwrap(), suspension.asked.unwrap());
    assert!(recorded.contains("T01:00") && asked.contains("T02:00"), "{recorded} / {asked}");
    assert!(suspension.place.unwrap().contains("suspension.rs"));

    let test = test.crash().registry(old).build_id("3").start().await.unwrap();
    let handle = test.client().handle("x");
    assert_eq!(handle.result().await.unwrap(), 1);
}

/// An orchestration whose older build naps more often.
enum Naps<const TIMES: u64> {}

impl<const TIMES: u64> Orchestration for Naps<TIMES> {
    const NAME: &'static str = "naps";
    type Input = ();
    type Output = u64;
    type Error = duroxide::Error;
}

impl<const TIMES: u64> OrchestrationFn for Naps<TIMES> {
    async fn run(ctx: OrchestrationContext, (): ()) -> duroxide::Result<u64> {
        for _ in 0..TIMES {
            ctx.sleep(hours(1)).await;
        }
        Ok(TIMES)
    }
}

#[tokio::test]
async fn early_end_suspends_with_history_left_over() {
    let old = Registry::empty().with_orchestration::<Naps<2>>();
    let new = Registry::empty().with_orchestration::<Naps<1>>();
    let test = crate::builder().registry(old.clone()).build_id("1").start().await.unwrap();
    test.client().start("naps", "x", &()).await.unwrap();
    test.advance(hours(1));
    crate::settled(&test).await;
    let test = test.crash().registry(new).build_id("2").start().await.unwrap();
    test.advance(hours(1));
    let status = test.client().handle("x").wait_for(|status| status.suspension.is_some()).await.unwrap();
    let suspension = status.suspension.unwrap();
    assert_eq!((suspension.code, suspension.event.unwrap().0), (ErrorCode::HistoryLeftOver, 4));
    let (recorded, asked) = (suspension.recorded.unwrap(), suspension.asked.unwrap());
    assert!(recorded.starts_with("call 2: timer due") && recorded.contains("T02:00"), "{recorded}");
    assert_eq!(asked, "the code ended here: return Ok");

    let test = test.crash().registry(old).build_id("3").start().await.unwrap();
    assert_eq!(test.client().handle("x").result().await.unwrap(), 2);
}

#[event]
struct Tick;

/// An orchestration with a history of several pages, which begins with a timer.
enum Ticks<const HOURS: u64> {}

impl<const HOURS: u64> Orchestration for Ticks<HOURS> {
    const NAME: &'static str = "ticks";
    type Input = ();
    type Output = u64;
    type Error = duroxide::Error;
}

impl<const HOURS: u64> OrchestrationFn for Ticks<HOURS> {
    async fn run(ctx: OrchestrationContext, (): ()) -> duroxide::Result<u64> {
        let _timer = ctx.sleep(hours(HOURS)).start();
        for _ in 0..TICKS {
            ctx.event::<Tick>().await;
        }
        Ok(HOURS)
    }
}

const TICKS: u64 = 1_100;

#[tokio::test]
async fn changed_code_is_found_on_the_first_page_of_a_long_history() {
    let old = Registry::empty().with_orchestration::<Ticks<1>>();
    let new = Registry::empty().with_orchestration::<Ticks<2>>();
    let test = crate::builder().registry(old.clone()).build_id("1").start().await.unwrap();
    let handle = test.client().start("ticks", "x", &()).await.unwrap();
    for _ in 1..TICKS {
        handle.raise_named("Tick", &Tick).await.unwrap();
    }
    crate::settled(&test).await;
    // Start, timer, and two events for each tick: awaited, raised.
    assert_eq!(handle.status().await.unwrap().events.0, 2 * TICKS + 1);
    let test = test.crash().registry(new).build_id("2").start().await.unwrap();
    let handle = test.client().handle("x");
    handle.raise_named("Tick", &Tick).await.unwrap();
    let status = handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
    let suspension = status.suspension.unwrap();
    assert_eq!((suspension.code, suspension.event.map(|event| event.0)), (ErrorCode::Nondeterminism, Some(2)));

    let test = test.crash().registry(old).build_id("3").start().await.unwrap();
    assert_eq!(test.client().handle("x").result().await.unwrap(), 1);
}

#[orchestration(allow = "this misuse is the subject of the test")]
async fn not_durable(ctx: OrchestrationContext) -> duroxide::Result<()> {
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    drop(ctx);
    Ok(())
}

#[orchestration(allow = "this misuse is the subject of the test")]
async fn smuggles(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let other = ctx.clone();
    let task = tokio::spawn(async move { other.now() });
    // Not a timer: the virtual clock could advance before the task has run.
    ctx.event::<Tick>().await;
    drop(task);
    Ok(())
}

#[orchestration]
async fn takes_a_number(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    drop(ctx);
    Ok(n)
}

#[tokio::test]
async fn misuse_is_reported_instead_of_hanging() {
    let test = crate::started().await;
    let client = test.client();
    for (handle, code) in [
        (client.start("not_durable", "1", &()).await.unwrap(), ErrorCode::NonDurableWait),
        (client.start("smuggles", "2", &()).await.unwrap(), ErrorCode::ContextOutsideTurn),
        (client.start("takes_a_number", "3", &"text").await.unwrap(), ErrorCode::UnreadableInput),
    ] {
        let status = handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
        let suspension = status.suspension.unwrap();
        assert_eq!(suspension.code, code, "{suspension}");
    }
}

#[tokio::test]
async fn unregistered_name_waits_visibly_until_it_is_registered() {
    let test = crate::builder().registry(Registry::empty()).start().await.unwrap();
    let begin = test.clock().now();
    let handle = takes_a_number::start(&test.client(), "waits", 5).await.unwrap();
    test.advance(days(3));
    let unclaimed = handle.status().await.unwrap().unclaimed.unwrap();
    assert!(unclaimed.what.contains("takes_a_number"), "{unclaimed:?}");
    assert_eq!(unclaimed.since, begin, "the status says since when it is unclaimed");
    let other = crate::builder().store_of(&test).start().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 5);
    drop(other);
}

#[tokio::test]
async fn cancel_of_a_suspended_instance_waits_for_resume() {
    let old = Registry::empty().with_orchestration::<Nap<1>>();
    let new = Registry::empty().with_orchestration::<Nap<2>>();
    let test = crate::builder().registry(old.clone()).build_id("1").start().await.unwrap();
    test.client().start("nap", "cancelled", &()).await.unwrap();
    crate::settled(&test).await;
    let test = test.crash().registry(new).build_id("2").start().await.unwrap();
    test.advance(minutes(1));
    let handle = test.client().handle("cancelled");
    handle.cancel("enough").await.unwrap();
    handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
    // A resume with code that still does not match suspends again, and keeps the cancel.
    handle.resume().await.unwrap();
    handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
    let test = test.crash().registry(old).build_id("3").start().await.unwrap();
    match test.client().handle("cancelled").result().await {
        Err(OutcomeError::Cancelled { reason }) => assert_eq!(reason, "enough"),
        other => panic!("{other:?}"),
    }
}
