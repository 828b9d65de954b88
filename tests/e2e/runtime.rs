//! The runtime as a whole: turns that do not return, work that blocks, shutting down, being dropped, what stays in memory.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{InstanceStatus, MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::VirtualClock;
use duroxide::{Client, Registry, RuntimeBuilder, RuntimeOptions, Timeout};
use futures_util::FutureExt;
use support::{Faults, FaultyProvider, Method};
use tokio::sync::watch;

/// A door that activities wait at.
#[derive(Clone, Default)]
pub(crate) struct Door {
    pub(crate) came: Arc<watch::Sender<u32>>,
    gone: Arc<watch::Sender<u32>>,
    open: Arc<watch::Sender<bool>>,
}

impl Door {
    pub(crate) fn came(&self) -> u32 {
        *self.came.borrow()
    }

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

/// Blocks its thread, although it is `async`.
#[activity]
async fn holds_its_thread(State(door): State<Door>) -> duroxide::Result<u32> {
    door.came.send_modify(|n| *n += 1);
    while !*door.open.borrow() {
        std::thread::yield_now();
    }
    Ok(1)
}

#[activity]
async fn passes_by() -> duroxide::Result<u32> {
    Ok(2)
}

#[orchestration]
async fn holds_or_passes(ctx: OrchestrationContext, holds: bool) -> duroxide::Result<u32> {
    Ok(if holds { holds_its_thread::call(&ctx).await? } else { passes_by::call(&ctx).await? })
}

#[event]
struct Ring;

#[orchestration]
pub(crate) async fn visits(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    join_all((0..n).map(|_| waits_at_door::call(&ctx))).await.into_iter().map(|r| r.map_err(Into::into)).sum()
}

#[orchestration]
async fn visits_until_it_rings(ctx: OrchestrationContext) -> duroxide::Result<bool> {
    select! {
        _ = waits_at_door::call(&ctx) => Ok(false),
        Ring = ctx.event::<Ring>() => Ok(true),
    }
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
    for _ in 0..n {
        ctx.event::<Ring>().await;
    }
    Ok(n)
}

/// As [`rings`], with its bodies counted under a number of the test's own.
#[orchestration]
async fn rings_counted(ctx: OrchestrationContext, counter: usize, n: u32) -> duroxide::Result<u32> {
    let _body = Body::new(counter);
    for _ in 0..n {
        ctx.event::<Ring>().await;
    }
    Ok(n)
}

/// The bodies of [`rings_counted`] in memory: now, and the most at a time.
struct Bodies {
    now: AtomicI64,
    most: AtomicI64,
}

static BODIES: [Bodies; 3] = [const { Bodies { now: AtomicI64::new(0), most: AtomicI64::new(0) } }; 3];

impl Bodies {
    fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    async fn until_gone(&self) {
        while self.now() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

struct Body(&'static Bodies);

impl Body {
    fn new(counter: usize) -> Self {
        let bodies = &BODIES[counter];
        let now = bodies.now.fetch_add(1, Ordering::SeqCst) + 1;
        bodies.most.fetch_max(now, Ordering::SeqCst);
        Self(bodies)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

fn registry() -> Registry {
    Registry::empty()
        .with_activity::<waits_at_door>()
        .with_blocking_activity::<blocks_at_door>()
        .with_activity::<holds_its_thread>()
        .with_activity::<passes_by>()
        .with_orchestration::<holds_or_passes>()
        .with_orchestration::<visits>()
        .with_orchestration::<visits_blocking>()
        .with_orchestration::<visits_until_it_rings>()
        .with_orchestration::<hour>()
        .with_orchestration::<never_returns>()
        .with_orchestration::<rings>()
        .with_orchestration::<rings_counted>()
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
async fn stuck_turn_is_logged_and_other_instances_continue() {
    let log = crate::logging::log();
    let mut options = quick();
    options.turn_threads = 1;
    // Longer than a machine with much to do needs for the first turn.
    options.turn_warning = Duration::from_millis(500);
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
async fn async_activity_that_blocks_its_thread_delays_no_other() {
    let mut options = quick();
    options.turn_threads = 1;
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let holds = holds_or_passes::start(&client, "holds", true).await.unwrap();
    bench.door.until_came(1).await;
    for n in 0..3 {
        let passes = holds_or_passes::start(&client, format!("passes-{n}"), false).await.unwrap();
        let passed = tokio::time::timeout(Duration::from_secs(20), passes.result()).await;
        assert_eq!(passed.expect("it is not held up").unwrap(), 2);
    }
    bench.door.open();
    assert_eq!(holds.result().await.unwrap(), 1);
    bench.runtime.shutdown().await.unwrap();
}

/// Not a test by itself: ends a tokio runtime in which a node works, many times.
#[test]
fn end_without_a_shutdown() {
    if std::env::var("ENDS_WITHOUT_A_SHUTDOWN").is_err() {
        return;
    }
    for round in 0..200 {
        let mut tokio = match round % 2 {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        tokio.enable_all().build().unwrap().block_on(async {
            let runtime = Runtime::builder().in_memory().registry(registry()).state(Door::default());
            let runtime = runtime.start().await.unwrap();
            let passes = holds_or_passes::start(&runtime.client(), "passes", false).await.unwrap();
            assert_eq!(passes.result().await.unwrap(), 2);
        });
    }
}

#[test]
fn program_without_a_shutdown_ends_without_a_panic() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runtime::end_without_a_shutdown", "--nocapture"])
        .env("ENDS_WITHOUT_A_SHUTDOWN", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
}

/// Computes without a pause until the heart has beaten so often, on the one thread that there is.
#[activity]
async fn computes(State(faults): State<Faults>, beats: usize) -> duroxide::Result<u32> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::SeqCst) + 1;
    let (begin, begun) = (std::time::Instant::now(), faults.begun(Method::Renew));
    while faults.begun(Method::Renew) < begun + beats {
        if begin.elapsed() > Duration::from_secs(20) {
            return Err(duroxide::Error::new("the heart does not beat"));
        }
    }
    Ok(run)
}

#[orchestration]
async fn calls_computes(ctx: OrchestrationContext, beats: usize) -> duroxide::Result<u32> {
    Ok(computes::call(&ctx, beats).await?)
}

#[tokio::test(flavor = "current_thread")]
async fn computing_activity_outlives_the_lease_time_and_runs_once() {
    let provider = FaultyProvider::new(MemoryProvider::new());
    let start = || {
        let registry = Registry::empty().with_activity::<computes>().with_orchestration::<calls_computes>();
        let builder = Runtime::builder().registry(registry).options(quick()).state(provider.faults().clone());
        builder.provider(provider.clone()).start()
    };
    let (runtime, _other) = (start().await.unwrap(), start().await.unwrap());
    // Two nodes beat three times in a lease time.
    let handle = calls_computes::start(&runtime.client(), "computes", 10 * 2 * 3).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(provider.faults().begun(Method::Join), 2, "nobody has stepped back");
}

/// Tells how many commits had begun when it did.
#[activity]
async fn counts_commits(State(faults): State<Faults>) -> duroxide::Result<usize> {
    Ok(faults.begun(Method::Commit))
}

#[orchestration]
async fn counts(ctx: OrchestrationContext) -> duroxide::Result<usize> {
    Ok(counts_commits::call(&ctx).await?)
}

#[orchestration]
async fn visits_until_rung(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let (visited, _rung) = join!(waits_at_door::call(&ctx), ctx.event::<Ring>());
    Ok(visited?)
}

#[tokio::test]
async fn activity_keeps_its_permit_until_its_outcome_is_sent() {
    let (provider, door) = (FaultyProvider::new(MemoryProvider::new()), Door::default());
    let faults = provider.faults();
    let registry = Registry::empty()
        .with_activity::<waits_at_door>()
        .with_activity::<counts_commits>()
        .with_orchestration::<visits_until_rung>()
        .with_orchestration::<counts>();
    let mut options = RuntimeOptions::default();
    options.max_activities = 1;
    let builder = Runtime::builder().registry(registry).options(options).state(door.clone()).state(faults.clone());
    let runtime = builder.provider(provider.clone()).start().await.unwrap();
    let visits = visits_until_rung::start(&runtime.client(), "visits").await.unwrap();
    door.until_came(1).await;
    let counts = counts::start(&runtime.client(), "waits for the place").await.unwrap();
    faults.hold(Method::Commit);
    let before = faults.begun(Method::Commit);
    visits.raise(Ring).await.unwrap();
    faults.until_begun(Method::Commit, before + 1).await;
    // The outcome has to wait until that turn is committed.
    door.open();
    door.until_gone(1).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    faults.release(Method::Commit);
    assert!(counts.result().await.unwrap() > before + 1, "it ran while the outcome before it was nowhere");
    assert_eq!(visits.result().await.unwrap(), 1);
    runtime.shutdown().await.unwrap();
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
    assert_eq!(bench.door.came(), 4, "no more than there is place for");
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
async fn node_without_a_free_permit_fires_timers() {
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
async fn shutdown_waits_for_running_activities() {
    let mut options = quick();
    options.drain = Duration::from_secs(60);
    let bench = Bench::new(options).await;
    visits::start(&bench.runtime.client(), "visits", 3).await.unwrap();
    bench.door.until_came(3).await;
    let client = bench.runtime.client();
    let shutdown = tokio::spawn(bench.runtime.shutdown());
    // Many times the lease time, which ends in nothing: the lease is kept until the work is done.
    bench.provider.faults().until_more(Method::Renew, 10).await;
    bench.door.open();
    shutdown.await.unwrap().unwrap();
    assert!(client.nodes().await.unwrap().is_empty(), "it has left");
    let next = builder(&bench.provider, &bench.clock, &bench.door).start().await.unwrap();
    assert_eq!(visits::handle(&next.client(), "visits").result().await.unwrap(), 3);
    assert_eq!(bench.door.came(), 3, "what had finished is not run again");
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_drain_time_and_no_longer() {
    let mut options = RuntimeOptions::default();
    options.drain = Duration::from_secs(600);
    let bench = Bench::new(options).await;
    visits::start(&bench.runtime.client(), "visits", 3).await.unwrap();
    visits_blocking::start(&bench.runtime.client(), "visits blocking", 3).await.unwrap();
    bench.door.until_came(6).await;
    let begin = tokio::time::Instant::now();
    bench.runtime.shutdown().await.unwrap();
    let waited = begin.elapsed();
    assert!((600..602).contains(&waited.as_secs()), "{waited:?}");
    bench.door.open();
}

#[tokio::test]
async fn shutdown_completes_although_its_future_is_dropped() {
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
    assert_eq!(bench.door.came(), 1, "the activity was left to finish");
}

#[tokio::test]
async fn shutdown_ends_all_tasks_and_their_activities_run_again() {
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
async fn dropped_runtime_releases_its_work() {
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
    drop(handle);
    assert_eq!(visits::handle(&next.client(), "visits").result().await.unwrap(), 2);
    next.shutdown().await.unwrap();
    drop(client);
}

#[tokio::test]
async fn live_copies_of_ended_instances_are_dropped() {
    let bench = Bench::new(quick()).await;
    let client = bench.runtime.client();
    for n in 0..200 {
        let handle = rings_counted::start(&client, format!("done-{n}"), 0, 1).await.unwrap();
        handle.raise(Ring).await.unwrap();
        handle.result().await.unwrap();
    }
    for end in ["cancel", "terminate", "terminate and delete"] {
        let handle = rings_counted::start(&client, end, 0, 1).await.unwrap();
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
        BODIES[0].until_gone().await;
    }
    let read = bench.provider.faults().begun(Method::History);
    // What has ended takes no place from what waits: its live copy is still there.
    let waiting = rings_counted::start(&client, "waiting", 0, 1).await.unwrap();
    for n in 0..5000 {
        rings_counted::start(&client, format!("empty-{n}"), 0, 0).await.unwrap().result().await.unwrap();
    }
    waiting.raise(Ring).await.unwrap();
    waiting.result().await.unwrap();
    assert_eq!(bench.provider.faults().begun(Method::History), read, "nothing was replayed");
    assert_eq!(BODIES[0].now(), 0);
}

#[tokio::test]
async fn suspend_resume_and_cancel_keep_at_most_one_live_copy() {
    let mut options = quick();
    options.limits.history = 10;
    let bench = Bench::new(options).await;
    let bodies = &BODIES[1];
    let handle = rings_counted::start(&bench.runtime.client(), "one body", 1, 100).await.unwrap();
    for _ in 0..10 {
        handle.raise(Ring).await.unwrap();
    }
    for _ in 0..5 {
        handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
        bodies.until_gone().await;
        handle.resume().await.unwrap();
        handle.raise(Ring).await.unwrap();
    }
    handle.cancel("enough").await.unwrap();
    handle.wait_for(|status| status.suspension.is_some() || status.status.is_finished()).await.unwrap();
    handle.resume().await.unwrap_or(());
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Cancelled);
    bodies.until_gone().await;
    assert_eq!(bodies.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn shutdown_drops_all_live_copies() {
    let bench = Bench::new(quick()).await;
    let client = bench.runtime.client();
    for n in 0..100 {
        rings_counted::start(&client, format!("waits-{n}"), 2, 1).await.unwrap();
    }
    while BODIES[2].now() < 100 {
        tokio::task::yield_now().await;
    }
    bench.runtime.shutdown().await.unwrap();
    assert_eq!(BODIES[2].now(), 0);
}

/// The heart of which beats by itself after twenty minutes: a test does not wait for that.
fn slow() -> RuntimeOptions {
    let mut options = RuntimeOptions::default();
    options.lease_time = hours(1);
    options
}

#[tokio::test]
async fn terminate_stops_running_activities_at_once() {
    let bench = Bench::new(slow()).await;
    let handle = visits::start(&bench.runtime.client(), "visits", 3).await.unwrap();
    bench.door.until_came(3).await;
    handle.terminate("enough").await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), bench.door.until_gone(3)).await.unwrap();
}

#[tokio::test]
async fn dropped_call_stops_its_activity_at_once() {
    let bench = Bench::new(slow()).await;
    let handle = visits_until_it_rings::start(&bench.runtime.client(), "visits").await.unwrap();
    bench.door.until_came(1).await;
    handle.raise(Ring).await.unwrap();
    assert!(handle.result().await.unwrap());
    tokio::time::timeout(Duration::from_secs(20), bench.door.until_gone(1)).await.unwrap();
}

#[tokio::test]
async fn instances_beyond_the_cache_are_replayed_on_demand() {
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
async fn destructor_panic_at_the_timeout_ends_the_activity() {
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

/// Counts how often it is polled.
struct Polled<F>(F, Arc<AtomicU32>);

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll(context)
    }
}

/// How often the waits of [`long_lived`] were polled, in the order of the tests that count.
static POLLS: LazyLock<[Arc<AtomicU32>; 2]> = LazyLock::new(Default::default);

/// Nobody waits for it: it only makes a history long.
#[event]
struct Filling;

#[orchestration]
async fn long_lived(ctx: OrchestrationContext, counter: usize) -> duroxide::Result<()> {
    loop {
        Polled(ctx.event::<Ring>(), POLLS[counter].clone()).await;
        crate::activities::double::call(&ctx, 1).await?;
    }
}

fn long_lived_registry() -> Registry {
    Registry::empty().with_activity::<crate::activities::double>().with_orchestration::<long_lived>()
}

/// An event makes four: raised, scheduled, completed, awaited.
const ROUND: u64 = 4;

/// Measures what `cost` tells of a round behind 10 events and behind 10,000; `events` tells how many there are. Neither may
/// itself be counted as a cost.
async fn costs_behind_ten_and_ten_thousand<C: Copy>(
    client: &Client,
    counter: usize,
    events: impl AsyncFn() -> u64,
    cost: impl Fn() -> C,
) -> [(C, C); 2] {
    let handle = long_lived::start(client, "long", counter).await.unwrap();
    let until = async |length: u64| {
        while events().await < length {
            tokio::task::yield_now().await;
        }
    };
    until(2).await;
    let mut costs = Vec::new();
    for length in [10, 10_000] {
        let missing = length - events().await;
        join_all((0..missing).map(|_| handle.raise(Filling).into_future())).await;
        until(length).await;
        let before = cost();
        handle.raise(Ring).await.unwrap();
        until(length + ROUND).await;
        costs.push((before, cost()));
    }
    duroxide::testing::check_history(&long_lived_registry(), &handle.history().await.unwrap()).unwrap();
    costs.try_into().ok().unwrap()
}

#[tokio::test]
async fn turn_behind_10_000_events_does_no_more_than_behind_10() {
    let provider = FaultyProvider::new(MemoryProvider::new());
    let builder = Runtime::builder().registry(long_lived_registry()).provider(provider.clone());
    let runtime = builder.clock(VirtualClock::new()).start().await.unwrap();
    let client = runtime.client();
    let faults = provider.faults();
    let events = async || client.handle("long").status().await.unwrap().events.0;
    let cost = || (POLLS[0].load(Ordering::SeqCst), faults.begun(Method::Commit), faults.events());
    let costs = costs_behind_ten_and_ten_thousand(&client, 0, events, cost).await;
    for ((polls, commits, events), (later_polls, later_commits, later)) in costs {
        // The wait is polled when its event is there, and the next one when it is not.
        assert_eq!(later_polls - polls, 2);
        assert_eq!(later_commits - commits, 2, "one for the event, one for the outcome");
        assert_eq!((later.written - events.written, later.read - events.read), (ROUND as usize, 0));
    }
}

#[tokio::test]
async fn turn_behind_10_000_events_runs_no_more_statements() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.db");
    let provider = SqliteProvider::open(&path).unwrap();
    let mut options = RuntimeOptions::default();
    options.lease_time = Duration::from_secs(3600);
    let builder = Runtime::builder().registry(long_lived_registry()).provider(provider.clone()).options(options);
    let runtime = builder.start().await.unwrap();
    let observer = rusqlite::Connection::open(&path).unwrap();
    let events = async || {
        let find = "SELECT coalesce(max(last_event), 0) FROM duroxide_instances";
        observer.query_row(find, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let cost = || provider.stats().statements;
    let costs = costs_behind_ten_and_ten_thousand(&runtime.client(), 1, events, cost).await;
    for (before, after) in costs {
        // With or without a question for work.
        assert!(after - before < 60, "{costs:?}");
    }
    runtime.shutdown().await.unwrap();
}
