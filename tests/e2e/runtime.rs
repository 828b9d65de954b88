//! The runtime as a whole: turns that do not return, work that blocks, shutting down, being dropped, what stays in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{InstanceStatus, MemoryProvider, Provider};
use duroxide::testing::VirtualClock;
use duroxide::{Client, Registry, RuntimeBuilder, RuntimeOptions, Timeout};
use futures_util::FutureExt;
use support::{FaultyProvider, Method};
use tokio::sync::watch;

/// A door that activities wait at.
#[derive(Clone, Default)]
pub(crate) struct Door {
    pub(crate) came: Arc<watch::Sender<u32>>,
    gone: Arc<watch::Sender<u32>>,
    open: Arc<watch::Sender<bool>>,
}

impl Door {
    pub(crate) async fn until_came(&self, times: u32) {
        self.came.subscribe().wait_for(|came| *came >= times).await.unwrap();
    }

    pub(crate) async fn until_gone(&self, times: u32) {
        self.gone.subscribe().wait_for(|gone| *gone >= times).await.unwrap();
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

struct Gone(Door);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.send_modify(|n| *n += 1);
    }
}

#[activity]
pub(crate) async fn waits_at_door(State(door): State<Door>) -> duroxide::Result<u32> {
    let _gone = Gone(door.clone());
    door.came.send_modify(|n| *n += 1);
    let _ = door.open.subscribe().wait_for(|open| *open).await;
    Ok(1)
}

#[activity]
pub(crate) fn blocks_at_door(State(door): State<Door>) -> duroxide::Result<u32> {
    door.came.send_modify(|n| *n += 1);
    while !*door.open.borrow() {
        std::thread::yield_now();
    }
    Ok(1)
}

#[event]
struct Ring;

#[orchestration]
async fn visits(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    join_all((0..n).map(|_| waits_at_door::call(&ctx))).await.into_iter().map(|r| r.map_err(Into::into)).sum()
}

#[orchestration]
async fn visits_blocking(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    join_all((0..n).map(|_| blocks_at_door::call(&ctx))).await.into_iter().map(|r| r.map_err(Into::into)).sum()
}

#[orchestration]
async fn hour(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(hours(1)).await;
    Ok(())
}

/// Lets the loop of [`never_returns`] end, once a test has seen what it does.
static ENOUGH: AtomicBool = AtomicBool::new(false);

#[orchestration]
async fn never_returns(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(Duration::ZERO).await;
    while !ENOUGH.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    Ok(())
}

#[orchestration]
async fn rings(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    let _body = Body::new();
    for _ in 0..n {
        ctx.event::<Ring>().await;
    }
    Ok(n)
}

/// Counts the bodies of [`rings`] in memory; only tests of `the_bodies_*` use it, one after the other.
static BODIES: AtomicI64 = AtomicI64::new(0);

struct Body;

impl Body {
    fn new() -> Self {
        BODIES.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        BODIES.fetch_sub(1, Ordering::SeqCst);
    }
}

fn registry() -> Registry {
    Registry::empty()
        .with_activity::<waits_at_door>()
        .with_blocking_activity::<blocks_at_door>()
        .with_orchestration::<visits>()
        .with_orchestration::<visits_blocking>()
        .with_orchestration::<hour>()
        .with_orchestration::<never_returns>()
        .with_orchestration::<rings>()
}

fn quick() -> RuntimeOptions {
    let mut options = RuntimeOptions::default();
    options.lease_time = Duration::from_millis(15);
    options.drain = Duration::from_millis(50);
    options
}

struct Bench {
    runtime: Runtime,
    door: Door,
    provider: FaultyProvider,
    clock: VirtualClock,
}

fn builder(provider: &FaultyProvider, clock: &VirtualClock, door: &Door) -> RuntimeBuilder {
    Runtime::builder().registry(registry()).provider(provider.clone()).clock(clock.clone()).state(door.clone())
}

impl Bench {
    async fn new(options: RuntimeOptions) -> Self {
        let (provider, clock, door) =
            (FaultyProvider::new(MemoryProvider::new()), VirtualClock::new(), Door::default());
        let runtime = builder(&provider, &clock, &door).options(options).start().await.unwrap();
        Self { runtime, door, provider, clock }
    }
}

#[tokio::test]
async fn a_turn_that_never_returns_is_named_and_others_go_on() {
    let log = crate::logging::log();
    let mut options = quick();
    options.turn_threads = 1;
    options.turn_warning = Duration::from_millis(50);
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let stuck = never_returns::start(&client, "loops-for-ever").await.unwrap();
    let line = log.until("loops-for-ever").await;
    for part in ["DUR0006", "never_returns", "runtime.rs"] {
        assert!(line.text.contains(part), "{part} is missing: {}", line.text);
    }
    // The heart goes on beating, so that the node is never idle for as long as the warning takes.
    let rings = rings::start(&client, "others", 2).await.unwrap();
    rings.raise(Ring).await.unwrap();
    rings.raise(Ring).await.unwrap();
    assert_eq!(rings.result().await.unwrap(), 2);
    stuck.terminate("it loops").await.unwrap();
    assert_eq!(stuck.wait().await.unwrap(), InstanceStatus::Terminated);
    bench.runtime.shutdown().await.unwrap();
    ENOUGH.store(true, Ordering::Relaxed);
}

#[tokio::test]
async fn blocking_activities_delay_no_timer() {
    let mut options = quick();
    options.max_blocking_activities = 4;
    let bench = Bench::new(options).await;
    let blocking = visits_blocking::start(&bench.runtime.client(), "blocking", 6).await.unwrap();
    bench.door.until_came(4).await;
    let timer = hour::start(&bench.runtime.client(), "timer").await.unwrap();
    passes(&bench, &timer).await;
    assert_eq!(*bench.door.came.borrow(), 4, "no more than there is place for");
    bench.door.open();
    assert_eq!(blocking.result().await.unwrap(), 6);
}

/// Moves the clock on by an hour once the timer is set: running activities keep it from moving by itself.
async fn passes(bench: &Bench, timer: &Handle<hour>) {
    while timer.status().await.unwrap().events.0 < 2 {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(hours(1));
    timer.result().await.unwrap();
}

#[tokio::test]
async fn a_node_without_a_free_place_forgets_no_timer() {
    let mut options = quick();
    options.max_activities = 1;
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let timer = hour::start(&client, "timer").await.unwrap();
    let visits = visits::start(&client, "visits", 5).await.unwrap();
    bench.door.until_came(1).await;
    // Somebody else's work makes the node ask, now that there is more than it has place for.
    for id in ["a", "b", "c"] {
        Client::new(bench.provider.clone()).start("nobody runs this", id, &()).await.unwrap();
        let asked = bench.provider.faults().begun(Method::Acquire);
        bench.provider.wakeups().work();
        bench.provider.faults().until_begun(Method::Acquire, asked + 1).await;
    }
    passes(&bench, &timer).await;
    bench.door.open();
    assert_eq!(visits.result().await.unwrap(), 5);
}

#[tokio::test]
async fn a_shutdown_lets_running_activities_finish() {
    let mut options = quick();
    options.drain = Duration::from_secs(60);
    let bench = Bench::new(options).await;
    visits::start(&bench.runtime.client(), "visits", 3).await.unwrap();
    bench.door.until_came(3).await;
    let client = bench.runtime.client();
    let shutdown = tokio::spawn(bench.runtime.shutdown());
    tokio::task::yield_now().await;
    bench.door.open();
    shutdown.await.unwrap().unwrap();
    assert!(client.nodes().await.unwrap().is_empty(), "it has left");
    let next = builder(&bench.provider, &bench.clock, &bench.door).start().await.unwrap();
    assert_eq!(visits::handle(&next.client(), "visits").result().await.unwrap(), 3);
    assert_eq!(*bench.door.came.borrow(), 3, "what had finished is not run again");
}

#[tokio::test]
async fn a_shutdown_that_nobody_waits_for_goes_on() {
    let mut options = quick();
    options.drain = Duration::from_secs(60);
    let bench = Bench::new(options).await;
    visits::start(&bench.runtime.client(), "visits", 1).await.unwrap();
    bench.door.until_came(1).await;
    let mut shutdown = Box::pin(bench.runtime.shutdown());
    assert!((&mut shutdown).now_or_never().is_none(), "it waits for the activity");
    drop(shutdown);
    bench.door.open();
    bench.provider.faults().until_begun(Method::Leave, 1).await;
    let next = builder(&bench.provider, &bench.clock, &bench.door).start().await.unwrap();
    assert_eq!(visits::handle(&next.client(), "visits").result().await.unwrap(), 1);
    assert_eq!(*bench.door.came.borrow(), 1, "the activity was left to finish");
}

#[tokio::test]
async fn a_shutdown_ends_every_task_and_what_is_unfinished_is_run_again() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let bench = Bench::new(quick()).await;
    visits::start(&bench.runtime.client(), "visits", 3).await.unwrap();
    bench.door.until_came(3).await;
    bench.runtime.shutdown().await.unwrap();
    bench.door.until_gone(3).await;
    while tasks() > before {
        tokio::task::yield_now().await;
    }
    let next = builder(&bench.provider, &bench.clock, &bench.door).start().await.unwrap();
    bench.door.until_came(6).await;
    bench.door.open();
    assert_eq!(visits::handle(&next.client(), "visits").result().await.unwrap(), 3);
}

#[tokio::test]
async fn a_runtime_that_is_dropped_leaves_its_work_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dropped.db");
    let door = Door::default();
    let start = || Runtime::builder().registry(registry()).sqlite(&path).state(door.clone()).start();
    let runtime = start().await.unwrap();
    // A client that lives on keeps the file open.
    let client = runtime.client();
    let handle = visits::start(&client, "visits", 2).await.unwrap();
    door.until_came(2).await;
    drop(runtime);
    door.until_gone(2).await;
    let next = start().await.unwrap();
    door.until_came(4).await;
    door.open();
    assert_eq!(handle.result().await.unwrap(), 2);
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_bodies_of_instances_that_ended_are_gone() {
    let bench = Bench::new(quick()).await;
    let client = bench.runtime.client();
    for n in 0..200 {
        let handle = rings::start(&client, format!("done-{n}"), 1).await.unwrap();
        handle.raise(Ring).await.unwrap();
        handle.result().await.unwrap();
    }
    for end in ["cancel", "terminate", "terminate and delete"] {
        let handle = rings::start(&client, end, 1).await.unwrap();
        while handle.status().await.unwrap().events.0 < 2 {
            tokio::task::yield_now().await;
        }
        if end == "cancel" {
            handle.cancel("").await.unwrap()
        } else {
            handle.terminate("").await.unwrap()
        }
        handle.wait().await.unwrap();
        if end == "terminate and delete" {
            handle.delete().await.unwrap();
        }
        while BODIES.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
    let read = bench.provider.faults().begun(Method::History);
    // What has ended takes no place from what waits: its live copy is still there.
    let waiting = rings::start(&client, "waiting", 1).await.unwrap();
    for n in 0..5000 {
        rings::start(&client, format!("empty-{n}"), 0).await.unwrap().result().await.unwrap();
    }
    waiting.raise(Ring).await.unwrap();
    waiting.result().await.unwrap();
    assert_eq!(bench.provider.faults().begun(Method::History), read, "nothing was replayed");
    assert_eq!(BODIES.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn terminating_frees_running_activities_at_once() {
    // Long before the next heartbeat.
    let bench = Bench::new(RuntimeOptions::default()).await;
    let handle = visits::start(&bench.runtime.client(), "visits", 3).await.unwrap();
    bench.door.until_came(3).await;
    handle.terminate("enough").await.unwrap();
    bench.door.until_gone(3).await;
}

#[tokio::test]
async fn instances_beyond_the_cache_are_replayed_when_something_comes() {
    let mut options = quick();
    options.max_idle_instances = 2;
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let mut handles = Vec::new();
    for n in 0..20 {
        handles.push(hour::start(&client, format!("hour-{n}")).await.unwrap());
    }
    for handle in &handles {
        handle.result().await.unwrap();
        assert_eq!(handle.history().await.unwrap().len(), 4);
    }
}

#[derive(Clone)]
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("of the destructor");
        }
    }
}

#[activity]
async fn dies_badly() -> duroxide::Result<()> {
    let _guard = PanicsWhenDropped;
    std::future::pending().await
}

#[orchestration]
async fn limits_what_dies_badly(ctx: OrchestrationContext) -> duroxide::Result<String> {
    match dies_badly::call(&ctx).timeout(Duration::from_secs(5)).await {
        Err(CallError::Panicked { message }) => Ok(message),
        Err(CallError::TimedOut(Timeout::StartToClose)) => Ok("timed out".to_owned()),
        other => Err(duroxide::Error::new(format!("{other:?}"))),
    }
}

#[tokio::test]
async fn an_activity_whose_destructor_panics_at_its_limit_has_an_end() {
    let test = crate::started().await;
    let handle = limits_what_dies_badly::start(&test.client(), "dies badly").await.unwrap();
    let result = tokio::spawn(async move { handle.result().await });
    while !result.is_finished() {
        test.advance(Duration::from_secs(6));
        tokio::task::yield_now().await;
    }
    assert_eq!(result.await.unwrap().unwrap(), "of the destructor");
}

/// Joins of selects of joins, with losers at every level.
#[orchestration]
async fn nested(ctx: OrchestrationContext) -> duroxide::Result<Vec<u64>> {
    let slow = |n: u64| {
        let ctx = ctx.clone();
        async move {
            ctx.sleep(hours(n)).await;
            n
        }
    };
    let first = async {
        select! { a = slow(3) => a, b = async { join!(slow(1), slow(2)) } => b.0 * 10 + b.1 }
    };
    let second = async { race([9, 4, 7].map(|n| Box::pin(slow(n)))).await.1 };
    let third = async {
        let inner = join_all((1..4).map(|n| async move { n + 100 }));
        let (a, b) = join!(slow(5), inner);
        a + b.into_iter().sum::<u64>()
    };
    let (a, (b, c)) = join!(first, async { join!(second, third) });
    Ok(vec![a, b, c, ctx.random() % 2 / 2])
}

#[tokio::test]
async fn nested_joins_and_selects_replay_as_they_ran() {
    let mut lengths = Vec::new();
    for idle in [100, 0] {
        let mut options = RuntimeOptions::default();
        options.max_idle_instances = idle;
        let test = crate::builder().options(options).start().await.unwrap();
        let handle = nested::start(&test.client(), "nested").await.unwrap();
        assert_eq!(handle.result().await.unwrap(), [12, 4, 311, 0]);
        lengths.push(handle.history().await.unwrap().len());
    }
    assert_eq!(lengths[0], lengths[1]);
}

#[activity]
async fn counts(State(calls): State<Arc<AtomicU32>>) -> duroxide::Result<u32> {
    Ok(calls.fetch_add(1, Ordering::SeqCst))
}

#[orchestration]
async fn long_lived(ctx: OrchestrationContext, events: u32) -> duroxide::Result<u32> {
    let mut read = 0;
    while read < events {
        ctx.event::<Ring>().await;
        read += 1;
        if read % 2500 == 0 {
            counts::call(&ctx).await?;
        }
    }
    Ok(read)
}

#[tokio::test]
async fn ten_thousand_events_in_one_history() {
    let calls = Arc::new(AtomicU32::new(0));
    let test = crate::builder().state(calls.clone()).start().await.unwrap();
    let handle = long_lived::start(&test.client(), "long", 5_000).await.unwrap();
    for _ in 0..5_000 {
        handle.raise(Ring).await.unwrap();
    }
    assert_eq!(handle.result().await.unwrap(), 5_000);
    let history = handle.history().await.unwrap();
    assert!(history.len() > 5_000);
    duroxide::testing::check_history(&Registry::empty().with_orchestration::<long_lived>(), &history).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}
