//! Clocks that are set, forwards and backwards, as a machine's are.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::VirtualClock;
use duroxide::{Clock, Hold, Party, Registry, RuntimeOptions, Timestamp};
use futures_util::future::BoxFuture;
use support::{Fault, FaultyProvider, Method};

use crate::runtime::{Door, visits, waits_at_door};

/// A virtual clock that can be set, too.
#[derive(Clone, Default)]
struct SetClock {
    clock: VirtualClock,
    /// In microseconds.
    ahead: Arc<AtomicI64>,
}

impl SetClock {
    /// Sets it by so many days.
    fn set(&self, days: i64) {
        self.ahead.fetch_add(days * 86_400_000_000, Ordering::SeqCst);
        // Whoever sleeps looks again.
        self.clock.advance(Duration::from_secs(60));
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.now().as_micros() + self.ahead.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            while clock.now() < due {
                let wait = due.since(clock.now()).min(Duration::from_secs(60));
                clock.clock.sleep_until(clock.clock.now() + wait).await;
            }
        })
    }

    fn hold(&self) -> Hold {
        self.clock.hold()
    }

    fn join(&self, party: Party) -> Hold {
        self.clock.join(party)
    }
}

async fn nobody_expires(provider: impl Provider) {
    let provider = FaultyProvider::new(provider);
    let (clock, door) = (SetClock::default(), Door::default());
    let mut options = RuntimeOptions::default();
    options.lease_time = Duration::from_millis(15);
    let start = || {
        let registry = Registry::empty().with_activity::<waits_at_door>().with_orchestration::<visits>();
        let builder = Runtime::builder().registry(registry).state(door.clone()).options(options.clone());
        builder.provider(provider.clone()).clock(clock.clone()).start()
    };
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    let client = first.client();
    let handle = visits::start(&client, "visits", 3).await.unwrap();
    door.until_came(3).await;
    for days in [365 * 100, -365 * 200, 1, 365 * 99] {
        clock.set(days);
        // Both have looked around since, several times.
        provider.faults().until_more(Method::Renew, 10).await;
        assert_eq!(client.nodes().await.unwrap().len(), 2);
    }
    door.open();
    assert_eq!(handle.result().await.unwrap(), 3);
    door.until_came(3).await;
    assert_eq!(door.came(), 3, "nothing was run twice");
    assert_eq!(provider.faults().begun(Method::Join), 2, "nobody has lost its lease");
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn clock_changes_expire_no_lease() {
    nobody_expires(MemoryProvider::new()).await;
    let folder = tempfile::tempdir().unwrap();
    nobody_expires(SqliteProvider::open(folder.path().join("clocks.db")).unwrap()).await;
}

#[orchestration]
async fn watches_the_time(ctx: OrchestrationContext) -> duroxide::Result<Vec<Timestamp>> {
    let mut times = vec![ctx.now()];
    for _ in 0..4 {
        ctx.sleep(hours(1)).await;
        times.push(ctx.now());
    }
    Ok(times)
}

#[tokio::test]
async fn time_is_monotonic_and_no_timer_is_lost_or_early() {
    let clock = SetClock::default();
    let registry = Registry::empty().with_orchestration::<watches_the_time>();
    let runtime = Runtime::builder().registry(registry).in_memory().clock(clock.clone()).start().await.unwrap();
    let handle = watches_the_time::start(&runtime.client(), "times").await.unwrap();
    let mut events = 2;
    for days in [-1, 400, -2] {
        // Set while a timer runs, which then ends and is followed by the next.
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

#[tokio::test]
async fn clock_set_back_during_a_claim_delays_no_activity() {
    let provider = FaultyProvider::new(MemoryProvider::new());
    let (clock, door) = (SetClock::default(), Door::default());
    let mut options = RuntimeOptions::default();
    options.max_activities = 1;
    let registry = Registry::empty().with_activity::<waits_at_door>().with_orchestration::<visits>();
    let builder = Runtime::builder().registry(registry).state(door.clone()).options(options);
    let runtime = builder.provider(provider.clone()).clock(clock.clone()).start().await.unwrap();
    let handle = visits::start(&runtime.client(), "visits", 3).await.unwrap();
    door.until_came(1).await;
    // Something else goes through the node, so that it knows by then that there is no place for more.
    visits::start(&runtime.client(), "nobody", 0).await.unwrap().result().await.unwrap();
    let faults = provider.faults();
    let asked = faults.nth(Method::Acquire, 1, Fault::AnswerWaits);
    door.open();
    // The answer brings the second, and that there is a third.
    asked.await;
    clock.set(-1);
    faults.release_answers(Method::Acquire);
    let all = tokio::time::timeout(Duration::from_secs(10), door.until_came(3)).await;
    all.expect("the third waits until the clock shows again what it has shown");
    assert_eq!(handle.result().await.unwrap(), 3);
    runtime.shutdown().await.unwrap();
}
