//! External events and their mailboxes.

use duroxide::prelude::*;
use duroxide::provider::{MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::VirtualClock;
use duroxide::{Client, Registry, RuntimeOptions};
use support::{Method, faulty, signalling, until_events};

#[event(name = "events-number")]
struct Number {
    n: u32,
}

#[event]
struct Done;

#[orchestration]
async fn collects(ctx: OrchestrationContext, n: usize) -> duroxide::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    while numbers.len() < n {
        numbers.push(ctx.event::<Number>().await.n);
    }
    Ok(numbers)
}

#[tokio::test]
async fn events_are_read_in_the_order_of_raising() {
    let test = crate::started().await;
    let handle = collects::start(&test.client(), "collects", 1000).await.unwrap();
    for n in 0..1000 {
        handle.raise(Number { n }).await.unwrap();
    }
    assert_eq!(handle.result().await.unwrap(), (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn event_does_not_overtake_one_missing_from_a_late_answer() {
    const MANY: u32 = 1_100;
    let mut options = RuntimeOptions::default();
    options.max_idle_instances = 0;
    let provider = faulty(MemoryProvider::new());
    let registry = Registry::empty().with_orchestration::<collects>();
    let builder = Runtime::builder().registry(registry).provider(provider.clone()).options(options);
    let runtime = builder.clock(VirtualClock::new()).start().await.unwrap();
    let faults = provider.faults();
    let handle = collects::start(&runtime.client(), "collects", 2 * MANY as usize).await.unwrap();
    // The instance waits. It is evicted by the time at which another instance has finished.
    until_events(&handle, 2).await;
    collects::start(&runtime.client(), "other", 0).await.unwrap().result().await.unwrap();
    let asked = faults.begun(Method::Acquire);
    faults.hold_answers(Method::Acquire);
    handle.raise(Number { n: 0 }).await.unwrap();
    faults.until_begun(Method::Acquire, asked + 1).await;
    for n in 1..MANY {
        handle.raise(Number { n }).await.unwrap();
    }
    // With the answer the instance is live again, and lacks the events that were raised since.
    faults.release_answers(Method::Acquire);
    for n in MANY..2 * MANY {
        handle.raise(Number { n }).await.unwrap();
    }
    faults.heal();
    assert_eq!(handle.result().await.unwrap(), (0..2 * MANY).collect::<Vec<_>>());
}

/// Raises events alternately through the node that runs the instance, and through a client of another process.
async fn check_alternating_events(here: impl Provider + Clone, there: impl Provider) {
    let registry = Registry::empty().with_orchestration::<collects>();
    let runtime = Runtime::builder().registry(registry).provider(signalling(here)).start().await.unwrap();
    let here = collects::start(&runtime.client(), "collects", 20).await.unwrap();
    let there = collects::handle(&Client::new(there), "collects");
    until_events(&here, 2).await;
    for n in (0..20).step_by(2) {
        there.raise(Number { n }).await.unwrap();
        here.raise(Number { n: n + 1 }).await.unwrap();
    }
    assert_eq!(here.result().await.unwrap(), (0..20).collect::<Vec<_>>());
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn event_does_not_overtake_one_of_another_process() {
    let memory = MemoryProvider::new();
    check_alternating_events(memory.clone(), memory).await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = || SqliteProvider::open(folder.path().join("state.db")).unwrap();
    check_alternating_events(sqlite(), sqlite()).await;
}

/// Waits until all events have arrived, then consumes them one by one or together, in one poll.
#[orchestration]
async fn takes(ctx: OrchestrationContext, how: String, n: usize) -> duroxide::Result<Vec<u32>> {
    ctx.event::<Done>().await;
    let mut taken = Vec::new();
    match how.as_str() {
        "drain" => taken.extend(ctx.drain::<Number>().into_iter().map(|event| event.n)),
        "try" => taken.extend(std::iter::from_fn(|| ctx.try_event::<Number>()).map(|event| event.n)),
        _ => {
            for _ in 0..n {
                taken.push(ctx.event::<Number>().await.n);
            }
        }
    }
    assert_eq!(ctx.drain::<Number>().len(), 0);
    Ok(taken)
}

#[tokio::test]
async fn buffered_events_are_consumed_in_one_turn() {
    let provider = faulty(MemoryProvider::new());
    let registry = Registry::empty().with_orchestration::<takes>();
    let builder = Runtime::builder().registry(registry).provider(provider.clone()).clock(VirtualClock::new());
    let runtime = builder.start().await.unwrap();
    for (n, ways) in
        [(100, &["drain", "try", "wait"][..]), (1_000, &["drain", "try", "wait"]), (10_000, &["drain", "wait"])]
    {
        for how in ways {
            let start = takes::start(&runtime.client(), format!("{how} {n}"), (*how).to_owned(), n);
            let handle = start.delay(hours(1)).await.unwrap();
            for number in 0..n {
                handle.raise(Number { n: number as u32 }).await.unwrap();
            }
            handle.raise(Done).await.unwrap();
            let commits = provider.faults().begun(Method::Commit);
            assert_eq!(handle.result().await.unwrap(), (0..n as u32).collect::<Vec<_>>(), "{how}");
            assert_eq!(provider.faults().begun(Method::Commit) - commits, 1, "{how} {n} in one turn");
        }
    }
}

#[orchestration]
async fn reads_by_name(ctx: OrchestrationContext) -> duroxide::Result<(Option<u32>, Vec<u32>, Option<u32>)> {
    let end = ctx.event_named::<String>("end").await;
    let first = ctx.try_event_named(&end);
    Ok((first, ctx.drain_named(&end), ctx.try_event_named(&end)))
}

#[tokio::test]
async fn events_named_at_run_time_are_read_without_waiting() {
    let test = crate::started().await;
    let handle = reads_by_name::start(&test.client(), "reads by name").await.unwrap();
    for n in 1..=3 {
        handle.raise_named("n", &n).await.unwrap();
    }
    handle.raise_named("end", "n").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), (Some(1), vec![2, 3], None));
}

#[orchestration]
async fn approval(ctx: OrchestrationContext) -> duroxide::Result<Option<u32>> {
    select! {
        event = ctx.event::<Number>() => Ok(Some(event.n)),
        () = ctx.sleep(days(3)) => Ok(None),
    }
}

#[tokio::test]
async fn event_races_a_deadline() {
    let test = crate::started().await;
    let late = approval::start(&test.client(), "late").await.unwrap();
    assert_eq!(late.result().await.unwrap(), None);
    let approved = approval::start(&test.client(), "approved").await.unwrap();
    approved.raise(Number { n: 7 }).await.unwrap();
    assert_eq!(approved.result().await.unwrap(), Some(7));
}

#[tokio::test]
async fn message_to_an_unknown_or_finished_instance_is_refused() {
    let test = crate::started().await;
    let unknown = approval::handle(&test.client(), "unknown");
    assert!(unknown.raise(Number { n: 1 }).await.unwrap_err().is_not_found());
    assert!(unknown.cancel("").await.unwrap_err().is_not_found());
    assert!(unknown.terminate("").await.unwrap_err().is_not_found());
    assert!(unknown.status().await.unwrap_err().is_not_found());
    let ended = approval::start(&test.client(), "ended").await.unwrap();
    ended.result().await.unwrap();
    assert!(ended.raise(Number { n: 1 }).await.unwrap_err().is_finished());
}

#[orchestration]
async fn dropped_waits(ctx: OrchestrationContext) -> duroxide::Result<Vec<u32>> {
    let mut seen = Vec::new();
    for _ in 0..3 {
        // Each round drops a wait that was polled.
        select! {
            () = ctx.sleep(hours(1)) => {}
            event = ctx.event::<Number>() => seen.push(event.n),
        }
    }
    ctx.event::<Done>().await;
    seen.extend(ctx.drain::<Number>().into_iter().map(|event| event.n));
    Ok(seen)
}

#[tokio::test]
async fn dropped_wait_consumes_no_event() {
    let test = crate::started().await;
    let handle = dropped_waits::start(&test.client(), "dropped").await.unwrap();
    test.advance(hours(3));
    for n in 0..5 {
        handle.raise(Number { n }).await.unwrap();
    }
    handle.raise(Done).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [0, 1, 2, 3, 4]);
}
