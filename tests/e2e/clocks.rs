//! Clocks that are set forwards and backwards, like those of machines.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use duroxide::clock::Clock;
use duroxide::clock::virtual_time::{ClockHold, Participant};
use duroxide::prelude::*;
use duroxide::provider::{MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::VirtualClock;
use duroxide::{Registry, RuntimeOptions, Timestamp};
use futures_util::future::BoxFuture;
use support::{Fault, Method, faulty, signalling, until_events};

use crate::runtime::{Gate, calls_waiting, waits_at_gate};

/// A virtual clock that can also be set to another date.
#[derive(Clone, Default)]
struct SettableClock {
    clock: VirtualClock,
    /// The offset to the virtual clock, in microseconds.
    ahead: Arc<AtomicI64>,
}

impl SettableClock {
    /// Sets the clock forwards by a number of days, or backwards if it is negative.
    fn set(&self, days: i64) {
        self.ahead.fetch_add(days * 86_400_000_000, Ordering::SeqCst);
        // Sleeping tasks wake and read the clock again.
        self.clock.advance(Duration::from_secs(60));
    }
}

impl Clock for SettableClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now().as_micros() + self.ahead.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        let by = clock.clock.now() + due.since(clock.now());
        Box::pin(async move {
            while clock.now() < due && clock.clock.now() < by {
                let wait = due.since(clock.now()).min(Duration::from_secs(60));
                clock.clock.sleep_until(by.min(clock.clock.now() + wait)).await;
            }
        })
    }

    fn steady(&self) -> Option<Duration> {
        Some(self.clock.now().since(Timestamp::from_micros(0)))
    }

    fn hold(&self) -> ClockHold {
        self.clock.hold()
    }

    fn join(&self, participant: Participant) -> ClockHold {
        self.clock.join(participant)
    }
}

async fn no_lease_expires(provider: impl Provider) {
    let provider = faulty(provider);
    let (clock, gate) = (SettableClock::default(), Gate::default());
    let mut options = RuntimeOptions::default();
    // A node on a busy machine must not miss its lease, only to have read a clock.
    options.lease_time = Duration::from_millis(600);
    let start = || {
        let registry = Registry::empty().with_activity::<waits_at_gate>().with_orchestration::<calls_waiting>();
        let builder = Runtime::builder().registry(registry).state(gate.clone()).options(options.clone());
        builder.provider(provider.clone()).clock(clock.clone()).start()
    };
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    let client = first.client();
    let handle = calls_waiting::start(&client, "waiting", 3).await.unwrap();
    gate.until_arrived(3).await;
    for days in [365 * 100, -365 * 200, 1, 365 * 99] {
        clock.set(days);
        // Both nodes renew several times, and would see a lease that had expired.
        provider.faults().until_more(Method::Renew, 10).await;
        assert_eq!(client.nodes().await.unwrap().len(), 2);
    }
    gate.open();
    assert_eq!(handle.result().await.unwrap(), 3);
    gate.until_arrived(3).await;
    assert_eq!(gate.arrived(), 3, "each activity was run once");
    assert_eq!(provider.faults().begun(Method::Join), 2, "no node lost its lease");
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn clock_changes_expire_no_lease() {
    no_lease_expires(MemoryProvider::new()).await;
    let folder = tempfile::tempdir().unwrap();
    no_lease_expires(SqliteProvider::open(folder.path().join("clocks.db")).unwrap()).await;
}

#[orchestration]
async fn records_times(ctx: OrchestrationContext) -> duroxide::Result<Vec<Timestamp>> {
    let mut times = vec![ctx.now()];
    for _ in 0..4 {
        ctx.sleep(hours(1)).await;
        times.push(ctx.now());
    }
    Ok(times)
}

#[tokio::test]
async fn time_is_monotonic_and_no_timer_is_lost_or_early() {
    let clock = SettableClock::default();
    let registry = Registry::empty().with_orchestration::<records_times>();
    let runtime = Runtime::builder().registry(registry).in_memory().clock(clock.clone()).start().await.unwrap();
    let handle = records_times::start(&runtime.client(), "times").await.unwrap();
    let mut events = 2;
    for days in [-1, 400, -2] {
        // The clock is set while a timer is pending. Until then, time passes minute by minute, so that an early timer shows.
        // A minute in which no timer fires changes nothing that the test could await.
        while handle.status().await.unwrap().events.0 < events {
            clock.clock.advance(minutes(1));
            tokio::task::yield_now().await;
        }
        clock.set(days);
        events += 2;
    }
    let times = handle.result().await.unwrap();
    let hours_between = times.windows(2).all(|pair| pair[1].since(pair[0]) >= hours(1));
    assert!(hours_between, "{times:?}");
}

/// Sleeps for two hours, between the events of a caller. Returns the times before and after.
#[orchestration]
async fn sleeps_on_request(ctx: OrchestrationContext) -> duroxide::Result<[Timestamp; 2]> {
    ctx.event::<Continue>().await;
    let begun = ctx.now();
    ctx.sleep(hours(2)).await;
    Ok([begun, ctx.now()])
}

#[event]
struct Continue;

#[tokio::test]
async fn clock_set_back_delays_no_timer() {
    let log = crate::logging::log();
    for max_idle in [10, 0] {
        let clock = SettableClock::default();
        let registry = Registry::empty().with_orchestration::<sleeps_on_request>();
        let mut options = RuntimeOptions::default();
        // Without live copies, the timers are loaded again when they fire.
        options.max_idle_instances = max_idle;
        let builder = Runtime::builder().registry(registry).options(options).clock(clock.clone());
        let runtime = builder.provider(signalling(MemoryProvider::new())).start().await.unwrap();
        let client = runtime.client();
        let node = client.nodes().await.unwrap()[0].info.id;
        let begun = clock.clock.now();
        let [before, after] = ["before", "after"].map(|id| sleeps_on_request::start(&client, id));
        let (before, after) = (before.await.unwrap(), after.await.unwrap());
        before.raise(Continue).await.unwrap();
        until_events(&before, 4).await;
        clock.set(-1);
        after.raise(Continue).await.unwrap();
        for handle in [before, after] {
            let [begun, ended] = handle.result().await.unwrap();
            assert!(ended.since(begun) >= hours(2), "{begun} to {ended}");
        }
        let passed = clock.clock.now().since(begun);
        assert!(passed < hours(3), "the timers of two hours fired after {passed:?}");
        let lines = log.with(&format!("node={node}"));
        assert_eq!(lines.iter().filter(|line| line.text.contains("the clock was set back")).count(), 1, "{lines:?}");
        runtime.shutdown().await.unwrap();
    }
}

/// Fails at first; the next attempt follows after two hours.
#[activity(retry(max_attempts = 2, initial_interval = "2h"))]
async fn succeeds_later(ctx: ActivityContext) -> duroxide::Result<u32> {
    if ctx.attempt() == 1 { Err(duroxide::Error::new("not yet")) } else { Ok(ctx.attempt()) }
}

#[orchestration]
async fn calls_succeeds_later(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(succeeds_later::call(&ctx).await?)
}

async fn retry_is_not_delayed(provider: impl Provider) {
    let provider = faulty(provider);
    let clock = SettableClock::default();
    let registry = Registry::empty().with_activity::<succeeds_later>().with_orchestration::<calls_succeeds_later>();
    let builder = Runtime::builder().registry(registry).provider(provider.clone());
    let runtime = builder.clock(clock.clone()).start().await.unwrap();
    let begun = clock.clock.now();
    let handle = calls_succeeds_later::start(&runtime.client(), "retries").await.unwrap();
    // The commits of the first turn and of the failure.
    provider.faults().until_begun(Method::Commit, 2).await;
    clock.set(-1);
    assert_eq!(handle.result().await.unwrap(), 2);
    let passed = clock.clock.now().since(begun);
    assert!(passed < hours(3), "the pause of two hours took {passed:?}");
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn clock_set_back_delays_no_retry() {
    retry_is_not_delayed(MemoryProvider::new()).await;
    let folder = tempfile::tempdir().unwrap();
    retry_is_not_delayed(SqliteProvider::open(folder.path().join("clocks.db")).unwrap()).await;
}

#[tokio::test]
async fn clock_set_back_during_a_claim_delays_no_activity() {
    let provider = faulty(MemoryProvider::new());
    let (clock, gate) = (SettableClock::default(), Gate::default());
    let mut options = RuntimeOptions::default();
    options.max_activities = 1;
    let registry = Registry::empty().with_activity::<waits_at_gate>().with_orchestration::<calls_waiting>();
    let builder = Runtime::builder().registry(registry).state(gate.clone()).options(options);
    let runtime = builder.provider(provider.clone()).clock(clock.clone()).start().await.unwrap();
    let handle = calls_waiting::start(&runtime.client(), "waiting", 3).await.unwrap();
    gate.until_arrived(1).await;
    // When another instance has finished, the node has processed all answers, and knows that it has no free permit.
    calls_waiting::start(&runtime.client(), "other", 0).await.unwrap().result().await.unwrap();
    let faults = provider.faults();
    let asked = faults.nth(Method::Acquire, 1, Fault::AnswerWaits);
    gate.open();
    // The answer contains the second activity, and the time at which a third is due: at once.
    asked.await;
    clock.set(-1);
    faults.release_answers(Method::Acquire);
    let all = tokio::time::timeout(Duration::from_secs(10), gate.until_arrived(3)).await;
    all.expect("the third activity waits until the clock reaches its old time");
    assert_eq!(handle.result().await.unwrap(), 3);
    runtime.shutdown().await.unwrap();
}
