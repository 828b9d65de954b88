//! Continue-as-new.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use duroxide::clock::Clock;
use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::sqlite::SqliteProvider;
use duroxide::{Client, Registry};
use futures_util::FutureExt;
use support::{signalling, until_stored};
use tokio::sync::watch;

#[event(name = "continued-number")]
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
async fn continues_hourly(ctx: OrchestrationContext, left: u32) -> duroxide::Result<u32> {
    let child = day::call(&ctx).start();
    let timer = ctx.sleep(days(7)).start();
    ctx.sleep(hours(1)).await;
    if left > 0 {
        return continues_hourly::continue_as_new(&ctx, left - 1).await;
    }
    drop(timer);
    child.await?;
    Ok(ctx.execution().number as u32)
}

#[tokio::test]
async fn children_never_collide_and_timers_end_with_their_execution() {
    let test = crate::started().await;
    let begin = test.clock().now();
    let handle = continues_hourly::start(&test.client(), "continues_hourly", 20).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 21);
    assert_eq!(test.clock().now().since(begin), hours(20 + 24));
}

#[event(name = "continued-go")]
struct Go;

#[event]
struct Last;

#[orchestration]
async fn drops_waits_and_continues(
    ctx: OrchestrationContext,
    left: u32,
    await_last: bool,
) -> duroxide::Result<Vec<u32>> {
    // The first number belongs to the older wait, the second to the younger; neither wait consumes one.
    let mut waits = vec![ctx.event::<Number>(), ctx.event::<Number>()];
    for wait in &mut waits {
        assert!(poll_fn(|context| Poll::Ready(wait.poll_unpin(context))).await.is_pending());
    }
    if await_last {
        // All events are delivered now. The next executions end before most of them are delivered again.
        ctx.event::<Last>().await;
    } else {
        // Events that have arrived are unconsumed, or not even delivered, when the next execution begins.
        ctx.event::<Go>().await;
    }
    // Both waits, the older one or none are dropped here; the others are dropped with their execution.
    waits.drain(..(left as usize + 2) % 3);
    if left > 0 {
        return drops_waits_and_continues::continue_as_new(&ctx, left - 1, false).await;
    }
    Ok(ctx.drain::<Number>().into_iter().map(|event| event.n).collect())
}

#[tokio::test]
async fn unconsumed_events_stay_before_undelivered_ones() {
    let test = crate::started().await;
    for (id, left, await_last) in [("after the first go", 5, false), ("after the last event", 6, true)] {
        let handle =
            drops_waits_and_continues::start(&test.client(), id, left, await_last).delay(hours(1)).await.unwrap();
        for n in 0..30 {
            handle.raise(Number { n }).await.unwrap();
            if n % 5 == 4 {
                handle.raise(Go).await.unwrap();
            }
        }
        handle.raise(Last).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), (0..30).collect::<Vec<_>>(), "{id}");
    }
}

#[orchestration]
async fn awaits_old_cancel(ctx: OrchestrationContext, again: bool) -> duroxide::Result<String> {
    let cancelled = ctx.cancelled();
    ctx.sleep(hours(1)).await;
    if again {
        return awaits_old_cancel::continue_as_new(&ctx, false).await;
    }
    Ok(cancelled.await)
}

#[tokio::test]
async fn unobserved_cancel_is_carried_to_the_next_execution() {
    let test = crate::started().await;
    let handle = awaits_old_cancel::start(&test.client(), "awaits late", true).await.unwrap();
    crate::settled(&test).await;
    handle.cancel("early").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "early");
}

/// Gates that a test opens one after the other.
#[derive(Clone, Default)]
pub(crate) struct Gates {
    open: Arc<watch::Sender<u32>>,
}

#[activity]
async fn waits_for_gate(State(gates): State<Gates>, number: u32) -> duroxide::Result<u32> {
    let _ = gates.open.subscribe().wait_for(|open| *open >= number).await;
    Ok(number)
}

/// Calls the same activity first in both executions, so that the two calls have the same id.
#[orchestration]
async fn calls_the_same(ctx: OrchestrationContext, gate: u32) -> duroxide::Result<u32> {
    let call = waits_for_gate::call(&ctx, gate);
    if gate == 1 {
        // The detached activity continues after the end of its execution.
        let _old = call.detached().start();
        return calls_the_same::continue_as_new(&ctx, 2).await;
    }
    Ok(call.await?)
}

#[tokio::test]
async fn outcome_never_reaches_the_next_execution() {
    let gates = Gates::default();
    let registry = Registry::empty().with_activity::<waits_for_gate>().with_orchestration::<calls_the_same>();
    let builder = Runtime::builder().registry(registry).provider(signalling(MemoryProvider::new()));
    let runtime = builder.state(gates.clone()).start().await.unwrap();
    let client = runtime.client();
    let handle = calls_the_same::start(&client, "same", 1).await.unwrap();
    let running = async |count: u64| {
        until_stored(async || client.nodes().await.unwrap()[0].activities == count).await;
    };
    running(2).await;
    gates.open.send_replace(1);
    running(1).await;
    gates.open.send_replace(2);
    assert_eq!(handle.result().await.unwrap(), 2);
    assert_eq!(handle.status().await.unwrap().execution.number, 2);
}

#[activity]
async fn repeats_number(n: u32) -> duroxide::Result<u32> {
    Ok(n)
}

#[event(name = "continued-other")]
struct Other;

/// Reads one event in each execution. With `work`, the others are there before the execution ends.
#[orchestration]
async fn reads_one(ctx: OrchestrationContext, left: u32, work: bool) -> duroxide::Result<u32> {
    if left == 0 {
        return Ok(ctx.execution().number as u32);
    }
    let Number { n } = ctx.event::<Number>().await;
    assert_eq!(n, left, "the oldest first");
    if work {
        repeats_number::call(&ctx, n).await?;
    }
    reads_one::continue_as_new(&ctx, left - 1, work).await
}

/// Returns the statements, the steps of the database, and the rows that remain of events, for one instance that reads
/// `unread` events in as many executions.
async fn cost_of_reading(unread: u32, work: bool) -> [u64; 2] {
    let folder = tempfile::tempdir().unwrap();
    let provider = SqliteProvider::open(folder.path().join("unread.db")).unwrap();
    let client = Client::new(provider.clone());
    let handle = reads_one::start(&client, "reads", unread, work).await.unwrap();
    for n in (1..=unread).rev() {
        // Events of another name are never read.
        handle.raise(Other).await.unwrap();
        handle.raise(Number { n }).await.unwrap();
    }
    let before = provider.stats();
    let registry = Registry::empty().with_orchestration::<reads_one>().with_activity::<repeats_number>();
    let runtime = Runtime::builder().registry(registry).provider(provider.clone()).start().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), unread + 1);
    runtime.shutdown().await.unwrap();
    let after = provider.stats();
    [after.statements - before.statements, after.steps - before.steps]
}

#[tokio::test]
async fn each_execution_costs_what_it_reads_and_not_what_waits() {
    for work in [false, true] {
        let [few, many] = [cost_of_reading(50, work).await, cost_of_reading(200, work).await];
        for (few, many) in few.into_iter().zip(many) {
            // Four times the events, and some for what is needed once.
            assert!(many < 5 * few, "with work: {work}: {few} for 50 events, {many} for 200");
        }
    }
}
