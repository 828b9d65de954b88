//! The runtime as a whole: stuck turns, blocking activities, shutdown, drop, live copies in memory.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use duroxide::error::TimedOut;
use duroxide::prelude::*;
use duroxide::provider::{InstanceStatus, MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::testing::VirtualClock;
use duroxide::{Client, Registry, RuntimeBuilder, RuntimeOptions, Timeout};
use futures_util::FutureExt;
use support::{Faults, FaultyProvider, Method, faulty, signalling, until_events, until_stored};
use tokio::sync::watch;

/// A gate at which activities wait until the test opens it; it counts their arrivals and departures.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    pub(crate) arrived: Arc<watch::Sender<u32>>,
    left: Arc<watch::Sender<u32>>,
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    pub(crate) fn arrived(&self) -> u32 {
        *self.arrived.borrow()
    }

    /// Counts an arrival, and returns its number.
    pub(crate) fn arrive(&self) -> u32 {
        let mut number = 0;
        self.arrived.send_modify(|arrived| {
            *arrived += 1;
            number = *arrived;
        });
        number
    }

    pub(crate) async fn until_arrived(&self, times: u32) {
        self.arrived.subscribe().wait_for(|arrived| *arrived >= times).await.unwrap();
    }

    pub(crate) async fn until_left(&self, times: u32) {
        self.left.subscribe().wait_for(|left| *left >= times).await.unwrap();
    }

    async fn until_open(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Blocks the thread until the gate is open.
    pub(crate) fn block(&self) {
        futures_executor::block_on(self.until_open());
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

struct LeaveOnDrop(Gate);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.left.send_modify(|n| *n += 1);
    }
}

#[activity]
pub(crate) async fn waits_at_gate(State(gate): State<Gate>) -> duroxide::Result<u32> {
    let _leave = LeaveOnDrop(gate.clone());
    gate.arrive();
    gate.until_open().await;
    Ok(1)
}

#[activity]
pub(crate) fn blocks_at_gate(State(gate): State<Gate>) -> duroxide::Result<u32> {
    gate.arrive();
    gate.block();
    Ok(1)
}

/// Blocks its thread although it is `async`.
#[activity]
async fn blocks_its_thread(State(gate): State<Gate>) -> duroxide::Result<u32> {
    gate.arrive();
    gate.block();
    Ok(1)
}

#[activity]
async fn returns_at_once() -> duroxide::Result<u32> {
    Ok(2)
}

#[orchestration]
async fn blocks_or_returns(ctx: OrchestrationContext, blocks: bool) -> duroxide::Result<u32> {
    Ok(if blocks { blocks_its_thread::call(&ctx).await? } else { returns_at_once::call(&ctx).await? })
}

#[event]
struct Signal;

#[orchestration]
pub(crate) async fn calls_waiting(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    join_all((0..n).map(|_| waits_at_gate::call(&ctx))).await.into_iter().map(|r| r.map_err(Into::into)).sum()
}

#[orchestration]
async fn calls_waiting_until_signal(ctx: OrchestrationContext) -> duroxide::Result<bool> {
    select! {
        _ = waits_at_gate::call(&ctx) => Ok(false),
        Signal = ctx.event::<Signal>() => Ok(true),
    }
}

#[orchestration]
async fn calls_blocking_at_gate(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    join_all((0..n).map(|_| blocks_at_gate::call(&ctx))).await.into_iter().map(|r| r.map_err(Into::into)).sum()
}

#[orchestration]
async fn sleeps_an_hour(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(hours(1)).await;
    Ok(())
}

/// Ends the loop of [`never_returns`], so that its thread does not outlive the test.
static STOP_SPINNING: AtomicBool = AtomicBool::new(false);

#[orchestration]
async fn never_returns(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(Duration::ZERO).await;
    while !STOP_SPINNING.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    Ok(())
}

#[orchestration]
async fn awaits_signals(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    for _ in 0..n {
        ctx.event::<Signal>().await;
    }
    Ok(n)
}

/// Awaits signals like [`awaits_signals`], and counts its live copies under the number of its test.
#[orchestration]
async fn awaits_counted(ctx: OrchestrationContext, counter: usize, n: u32) -> duroxide::Result<u32> {
    let _copy = LiveCopy::new(counter);
    for _ in 0..n {
        ctx.event::<Signal>().await;
    }
    Ok(n)
}

/// The number of live copies of [`awaits_counted`]: now, and at most so far.
#[derive(Default)]
struct LiveCopies {
    now: watch::Sender<i64>,
    most: AtomicI64,
}

static LIVE_COPIES: LazyLock<[LiveCopies; 3]> = LazyLock::new(Default::default);

impl LiveCopies {
    fn now(&self) -> i64 {
        *self.now.borrow()
    }

    async fn until(&self, copies: i64) {
        self.now.subscribe().wait_for(|now| *now == copies).await.unwrap();
    }
}

struct LiveCopy(&'static LiveCopies);

impl LiveCopy {
    fn new(counter: usize) -> Self {
        let copies = &LIVE_COPIES[counter];
        copies.now.send_modify(|now| {
            *now += 1;
            copies.most.fetch_max(*now, Ordering::SeqCst);
        });
        Self(copies)
    }
}

impl Drop for LiveCopy {
    fn drop(&mut self) {
        self.0.now.send_modify(|now| *now -= 1);
    }
}

fn registry() -> Registry {
    Registry::empty()
        .with_activity::<waits_at_gate>()
        .with_blocking_activity::<blocks_at_gate>()
        .with_activity::<blocks_its_thread>()
        .with_activity::<returns_at_once>()
        .with_orchestration::<blocks_or_returns>()
        .with_orchestration::<calls_waiting>()
        .with_orchestration::<calls_blocking_at_gate>()
        .with_orchestration::<calls_waiting_until_signal>()
        .with_orchestration::<sleeps_an_hour>()
        .with_orchestration::<never_returns>()
        .with_orchestration::<awaits_signals>()
        .with_orchestration::<awaits_counted>()
}

/// Yields often enough that the node has almost certainly processed all messages: no event shows that it has ignored one. If
/// it has not, a test checks less, but does not fail.
pub(crate) async fn yield_often() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

fn quick() -> RuntimeOptions {
    let mut options = RuntimeOptions::default();
    options.lease_time = Duration::from_millis(15);
    options.drain = Duration::from_millis(50);
    options
}

struct Bench {
    runtime: Runtime,
    gate: Gate,
    provider: FaultyProvider,
    clock: VirtualClock,
}

fn builder(provider: &FaultyProvider, clock: &VirtualClock, gate: &Gate) -> RuntimeBuilder {
    Runtime::builder().registry(registry()).provider(provider.clone()).clock(clock.clone()).state(gate.clone())
}

impl Bench {
    async fn new(options: RuntimeOptions) -> Self {
        let (provider, clock, gate) = (faulty(MemoryProvider::new()), VirtualClock::new(), Gate::default());
        let runtime = builder(&provider, &clock, &gate).options(options).start().await.unwrap();
        Self { runtime, gate, provider, clock }
    }
}

#[tokio::test]
async fn stuck_turn_is_logged_and_other_instances_continue() {
    let log = crate::logging::log();
    let mut options = quick();
    options.turn_threads = 1;
    // Longer than a first turn takes on a busy machine.
    options.turn_warning = Duration::from_millis(500);
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let stuck = never_returns::start(&client, "loops-for-ever").await.unwrap();
    let line = log.until("instance=loops-for-ever orchestration").await;
    for part in ["DUR0006", "never_returns", "place=\"tests/e2e/runtime.rs:", "last_call=\"tests/e2e/runtime.rs:"] {
        assert!(line.text.contains(part), "{part} is missing: {}", line.text);
    }
    // Heartbeats continue, so the warning must not depend on an idle node.
    let others = awaits_signals::start(&client, "others", 2).await.unwrap();
    others.raise(Signal).await.unwrap();
    others.raise(Signal).await.unwrap();
    assert_eq!(others.result().await.unwrap(), 2);
    stuck.terminate("it loops").await.unwrap();
    assert_eq!(stuck.wait().await.unwrap(), InstanceStatus::Terminated);
    bench.runtime.shutdown().await.unwrap();
    STOP_SPINNING.store(true, Ordering::Relaxed);
}

#[tokio::test]
async fn async_activity_that_blocks_its_thread_delays_no_other() {
    let mut options = quick();
    options.turn_threads = 1;
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let blocks = blocks_or_returns::start(&client, "blocks", true).await.unwrap();
    bench.gate.until_arrived(1).await;
    for n in 0..3 {
        let returns = blocks_or_returns::start(&client, format!("returns-{n}"), false).await.unwrap();
        let returned = tokio::time::timeout(Duration::from_secs(20), returns.result()).await;
        assert_eq!(returned.expect("an activity that blocks delays another").unwrap(), 2);
    }
    bench.gate.open();
    assert_eq!(blocks.result().await.unwrap(), 1);
    bench.runtime.shutdown().await.unwrap();
}

#[activity]
async fn blocks_after(State(gate): State<Gate>, pauses: u32) -> duroxide::Result<u32> {
    for _ in 0..pauses {
        // Ends a step of the activity.
        tokio::task::yield_now().await;
    }
    gate.arrive();
    gate.block();
    Ok(pauses)
}

#[orchestration]
async fn calls_blocking_after(ctx: OrchestrationContext, pauses: u32) -> duroxide::Result<u32> {
    Ok(blocks_after::call(&ctx, pauses).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn async_activity_that_blocks_its_thread_is_reported() {
    let log = crate::logging::log();
    let gate = Gate::default();
    let registry = Registry::empty().with::<blocks_after>().with::<calls_blocking_after>();
    let options = RuntimeOptions::new().activity_warning(Duration::from_millis(50));
    let runtime = Runtime::builder().in_memory().registry(registry).state(gate.clone()).options(options);
    let runtime = runtime.start().await.unwrap();
    // The first step, on a thread of the node, and a later one, on a worker of tokio.
    for pauses in [0, 1] {
        let id = format!("blocks-after-{pauses}");
        let instance = calls_blocking_after::start(&runtime.client(), &id, pauses).await.unwrap();
        let line = log.until(&format!("instance={id} call=")).await.text;
        for part in ["activity=\"blocks_after\"", "attempt=1", "seconds=0.", "plain `fn`"] {
            assert!(line.contains(part), "{part} is missing: {line}");
        }
        gate.open();
        assert_eq!(instance.result().await.unwrap(), pauses);
        let lines = log.with(&format!("instance={id} "));
        let text = format!("{lines:?}");
        assert!(text.contains("no longer blocks"), "{text}");
        assert_eq!(text.matches("blocks its thread").count(), 2, "reported once, and its end: {text}");
        gate.open.send_replace(false);
    }
    runtime.shutdown().await.unwrap();
}

/// The child process of the test below: drops tokio runtimes while a node runs in them.
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
            let runtime = Runtime::builder().in_memory().registry(registry()).state(Gate::default());
            let runtime = runtime.start().await.unwrap();
            let returns = blocks_or_returns::start(&runtime.client(), "returns", false).await.unwrap();
            assert_eq!(returns.result().await.unwrap(), 2);
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

/// Computes on the only thread, without a pause, until this number of renewals have begun.
#[activity]
async fn computes(State(faults): State<Faults>, renewals: usize) -> duroxide::Result<u32> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::SeqCst) + 1;
    let (begin, begun) = (std::time::Instant::now(), faults.begun(Method::Renew));
    while faults.begun(Method::Renew) < begun + renewals {
        if begin.elapsed() > Duration::from_secs(20) {
            return Err(duroxide::Error::new("the heartbeat has stopped"));
        }
    }
    Ok(run)
}

#[orchestration]
async fn calls_computes(ctx: OrchestrationContext, renewals: usize) -> duroxide::Result<u32> {
    Ok(computes::call(&ctx, renewals).await?)
}

#[tokio::test(flavor = "current_thread")]
async fn computing_activity_outlives_the_lease_time_and_runs_once() {
    let provider = faulty(MemoryProvider::new());
    let start = || {
        let registry = Registry::empty().with_activity::<computes>().with_orchestration::<calls_computes>();
        let builder = Runtime::builder().registry(registry).options(quick()).state(provider.faults().clone());
        builder.provider(provider.clone()).start()
    };
    let (runtime, _other) = (start().await.unwrap(), start().await.unwrap());
    // Each of the two nodes renews three times in a lease time.
    let handle = calls_computes::start(&runtime.client(), "computes", 10 * 2 * 3).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(provider.faults().begun(Method::Join), 2, "no node lost its lease");
}

/// Returns the number of commits that had begun when it started.
#[activity]
async fn reads_commit_count(State(faults): State<Faults>) -> duroxide::Result<usize> {
    Ok(faults.begun(Method::Commit))
}

#[orchestration]
async fn calls_reads_commit_count(ctx: OrchestrationContext) -> duroxide::Result<usize> {
    Ok(reads_commit_count::call(&ctx).await?)
}

#[orchestration]
async fn joins_waiting_and_signal(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let (outcome, _signal) = join!(waits_at_gate::call(&ctx), ctx.event::<Signal>());
    Ok(outcome?)
}

#[tokio::test]
async fn activity_keeps_its_permit_until_its_outcome_is_sent() {
    let (provider, gate) = (faulty(MemoryProvider::new()), Gate::default());
    let faults = provider.faults();
    let registry = Registry::empty()
        .with_activity::<waits_at_gate>()
        .with_activity::<reads_commit_count>()
        .with_orchestration::<joins_waiting_and_signal>()
        .with_orchestration::<calls_reads_commit_count>();
    let mut options = RuntimeOptions::default();
    options.max_activities = 1;
    let builder = Runtime::builder().registry(registry).options(options).state(gate.clone()).state(faults.clone());
    let runtime = builder.provider(provider.clone()).start().await.unwrap();
    let waiting = joins_waiting_and_signal::start(&runtime.client(), "waiting").await.unwrap();
    gate.until_arrived(1).await;
    let counts = calls_reads_commit_count::start(&runtime.client(), "waits for the permit").await.unwrap();
    faults.hold(Method::Commit);
    let before = faults.begun(Method::Commit);
    waiting.raise(Signal).await.unwrap();
    faults.until_begun(Method::Commit, before + 1).await;
    // The outcome has to wait until the turn of the signal is committed.
    gate.open();
    gate.until_left(1).await;
    yield_often().await;
    faults.release(Method::Commit);
    assert!(
        counts.result().await.unwrap() > before + 1,
        "the second activity ran before the first activity's outcome was sent"
    );
    assert_eq!(waiting.result().await.unwrap(), 1);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn blocking_activities_delay_no_timer() {
    let mut options = quick();
    options.max_blocking_activities = 4;
    let bench = Bench::new(options).await;
    let blocking = calls_blocking_at_gate::start(&bench.runtime.client(), "blocking", 6).await.unwrap();
    bench.gate.until_arrived(4).await;
    let timer = sleeps_an_hour::start(&bench.runtime.client(), "timer").await.unwrap();
    fire(&bench, &timer).await;
    assert_eq!(bench.gate.arrived(), 4, "no more activities run than there are permits");
    bench.gate.open();
    assert_eq!(blocking.result().await.unwrap(), 6);
}

/// Advances the clock by an hour once the timer is set: while activities run, the clock does not advance automatically.
async fn fire(bench: &Bench, timer: &Handle<sleeps_an_hour>) {
    until_events(timer, 2).await;
    bench.clock.advance(hours(1));
    timer.result().await.unwrap();
}

#[tokio::test]
async fn node_without_a_free_permit_fires_timers() {
    let mut options = quick();
    options.max_activities = 1;
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let timer = sleeps_an_hour::start(&client, "timer").await.unwrap();
    let waiting = calls_waiting::start(&client, "waiting", 5).await.unwrap();
    bench.gate.until_arrived(1).await;
    // Other work makes the node ask the provider again, while it has no free permit.
    for id in ["a", "b", "c"] {
        Client::new(bench.provider.clone()).start("unregistered", id, &()).await.unwrap();
        let asked = bench.provider.faults().begun(Method::Acquire);
        bench.provider.wakeups().work();
        bench.provider.faults().until_begun(Method::Acquire, asked + 1).await;
    }
    fire(&bench, &timer).await;
    bench.gate.open();
    assert_eq!(waiting.result().await.unwrap(), 5);
}

#[tokio::test]
async fn shutdown_waits_for_running_activities() {
    let mut options = quick();
    options.drain = Duration::from_secs(60);
    let bench = Bench::new(options).await;
    calls_waiting::start(&bench.runtime.client(), "waiting", 3).await.unwrap();
    bench.gate.until_arrived(3).await;
    let client = bench.runtime.client();
    let shutdown = tokio::spawn(bench.runtime.shutdown());
    // Wait for several lease times: the draining node has to keep its lease.
    bench.provider.faults().until_more(Method::Renew, 10).await;
    bench.gate.open();
    shutdown.await.unwrap().unwrap();
    assert!(client.nodes().await.unwrap().is_empty(), "the node has left");
    let next = builder(&bench.provider, &bench.clock, &bench.gate).start().await.unwrap();
    assert_eq!(calls_waiting::handle(&next.client(), "waiting").result().await.unwrap(), 3);
    assert_eq!(bench.gate.arrived(), 3, "finished activities do not run again");
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_drain_time_and_no_longer() {
    let mut options = RuntimeOptions::default();
    options.drain = Duration::from_secs(600);
    let bench = Bench::new(options).await;
    calls_waiting::start(&bench.runtime.client(), "waiting", 3).await.unwrap();
    calls_blocking_at_gate::start(&bench.runtime.client(), "blocking", 3).await.unwrap();
    bench.gate.until_arrived(6).await;
    let begin = tokio::time::Instant::now();
    bench.runtime.shutdown().await.unwrap();
    let waited = begin.elapsed();
    assert!((600..602).contains(&waited.as_secs()), "{waited:?}");
    bench.gate.open();
}

#[tokio::test]
async fn shutdown_completes_although_its_future_is_dropped() {
    let mut options = quick();
    options.drain = Duration::from_secs(60);
    let bench = Bench::new(options).await;
    calls_waiting::start(&bench.runtime.client(), "waiting", 1).await.unwrap();
    bench.gate.until_arrived(1).await;
    let mut shutdown = Box::pin(bench.runtime.shutdown());
    assert!((&mut shutdown).now_or_never().is_none(), "the shutdown waits for the activity");
    drop(shutdown);
    bench.gate.open();
    bench.provider.faults().until_begun(Method::Leave, 1).await;
    let next = builder(&bench.provider, &bench.clock, &bench.gate).start().await.unwrap();
    assert_eq!(calls_waiting::handle(&next.client(), "waiting").result().await.unwrap(), 1);
    assert_eq!(bench.gate.arrived(), 1, "the activity was not run again");
}

#[tokio::test]
async fn shutdown_ends_all_tasks_and_their_activities_run_again() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let bench = Bench::new(quick()).await;
    calls_waiting::start(&bench.runtime.client(), "waiting", 3).await.unwrap();
    bench.gate.until_arrived(3).await;
    bench.runtime.shutdown().await.unwrap();
    bench.gate.until_left(3).await;
    // tokio sends no signal when a task has ended.
    while tasks() > before {
        tokio::task::yield_now().await;
    }
    let next = builder(&bench.provider, &bench.clock, &bench.gate).start().await.unwrap();
    bench.gate.until_arrived(6).await;
    bench.gate.open();
    assert_eq!(calls_waiting::handle(&next.client(), "waiting").result().await.unwrap(), 3);
}

#[tokio::test]
async fn dropped_runtime_releases_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dropped.db");
    let gate = Gate::default();
    let start = || Runtime::builder().registry(registry()).sqlite(&path).state(gate.clone()).start();
    let runtime = start().await.unwrap();
    // A client that outlives the runtime keeps the file open.
    let client = runtime.client();
    let handle = calls_waiting::start(&client, "waiting", 2).await.unwrap();
    gate.until_arrived(2).await;
    drop(runtime);
    gate.until_left(2).await;
    let next = start().await.unwrap();
    gate.until_arrived(4).await;
    gate.open();
    drop(handle);
    assert_eq!(calls_waiting::handle(&next.client(), "waiting").result().await.unwrap(), 2);
    next.shutdown().await.unwrap();
    drop(client);
}

#[tokio::test]
async fn live_copies_of_ended_instances_are_dropped() {
    let bench = Bench::new(quick()).await;
    let client = bench.runtime.client();
    for n in 0..200 {
        let handle = awaits_counted::start(&client, format!("done-{n}"), 0, 1).await.unwrap();
        handle.raise(Signal).await.unwrap();
        handle.result().await.unwrap();
    }
    for end in ["cancel", "terminate", "terminate and delete"] {
        let handle = awaits_counted::start(&client, end, 0, 1).await.unwrap();
        until_events(&handle, 2).await;
        if end == "cancel" {
            handle.cancel("").await.unwrap()
        } else {
            handle.terminate("").await.unwrap()
        }
        handle.wait().await.unwrap();
        if end == "terminate and delete" {
            handle.delete().await.unwrap();
        }
        LIVE_COPIES[0].until(0).await;
    }
    let read = bench.provider.faults().begun(Method::History);
    // Ended instances do not evict waiting ones from the cache.
    let waiting = awaits_counted::start(&client, "waiting", 0, 1).await.unwrap();
    for n in 0..5000 {
        awaits_counted::start(&client, format!("empty-{n}"), 0, 0).await.unwrap().result().await.unwrap();
    }
    waiting.raise(Signal).await.unwrap();
    waiting.result().await.unwrap();
    assert_eq!(bench.provider.faults().begun(Method::History), read, "nothing was replayed");
    assert_eq!(LIVE_COPIES[0].now(), 0);
}

#[tokio::test]
async fn suspend_resume_and_cancel_keep_at_most_one_live_copy() {
    let mut options = quick();
    options.limits.history = 10;
    let bench = Bench::new(options).await;
    let copies = &LIVE_COPIES[1];
    let handle = awaits_counted::start(&bench.runtime.client(), "one live copy", 1, 100).await.unwrap();
    for _ in 0..10 {
        handle.raise(Signal).await.unwrap();
    }
    for _ in 0..5 {
        handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
        copies.until(0).await;
        handle.resume().await.unwrap();
        handle.raise(Signal).await.unwrap();
    }
    handle.cancel("enough").await.unwrap();
    handle.wait_for(|status| status.suspension.is_some() || status.status.is_finished()).await.unwrap();
    handle.resume().await.unwrap_or(());
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Cancelled);
    copies.until(0).await;
    assert_eq!(copies.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn shutdown_drops_all_live_copies() {
    let bench = Bench::new(quick()).await;
    let client = bench.runtime.client();
    for n in 0..100 {
        awaits_counted::start(&client, format!("waits-{n}"), 2, 1).await.unwrap();
    }
    LIVE_COPIES[2].until(100).await;
    bench.runtime.shutdown().await.unwrap();
    assert_eq!(LIVE_COPIES[2].now(), 0);
}

/// Options with a heartbeat every twenty minutes, so that a test cannot pass by waiting for one.
fn slow() -> RuntimeOptions {
    let mut options = RuntimeOptions::default();
    options.lease_time = hours(1);
    options
}

#[tokio::test]
async fn terminate_stops_running_activities_at_once() {
    let bench = Bench::new(slow()).await;
    let handle = calls_waiting::start(&bench.runtime.client(), "waiting", 3).await.unwrap();
    bench.gate.until_arrived(3).await;
    handle.terminate("enough").await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), bench.gate.until_left(3)).await.unwrap();
}

#[tokio::test]
async fn dropped_call_stops_its_activity_at_once() {
    let bench = Bench::new(slow()).await;
    let handle = calls_waiting_until_signal::start(&bench.runtime.client(), "waiting").await.unwrap();
    bench.gate.until_arrived(1).await;
    handle.raise(Signal).await.unwrap();
    assert!(handle.result().await.unwrap());
    tokio::time::timeout(Duration::from_secs(20), bench.gate.until_left(1)).await.unwrap();
}

#[tokio::test]
async fn instances_beyond_the_cache_are_replayed_on_demand() {
    let mut options = quick();
    options.max_idle_instances = 2;
    let bench = Bench::new(options).await;
    let client = bench.runtime.client();
    let mut handles = Vec::new();
    for n in 0..20 {
        handles.push(sleeps_an_hour::start(&client, format!("sleeps-{n}")).await.unwrap());
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
async fn panics_when_dropped(State(gate): State<Gate>) -> duroxide::Result<()> {
    let _guard = PanicsWhenDropped;
    gate.arrive();
    std::future::pending().await
}

#[orchestration]
async fn times_out_a_panicking_drop(ctx: OrchestrationContext) -> duroxide::Result<String> {
    match panics_when_dropped::call(&ctx).timeout(Duration::from_secs(5)).await {
        Err(CallError::Panicked { message, .. }) => Ok(message),
        Err(CallError::TimedOut(TimedOut { limit: Timeout::StartToClose, .. })) => Ok("timed out".to_owned()),
        other => Err(duroxide::Error::new(format!("{other:?}"))),
    }
}

#[tokio::test]
async fn destructor_panic_at_the_timeout_ends_the_activity() {
    let gate = Gate::default();
    let test = crate::builder().state(gate.clone()).start().await.unwrap();
    let handle = times_out_a_panicking_drop::start(&test.client(), "panics").await.unwrap();
    gate.until_arrived(1).await;
    test.advance(Duration::from_secs(6));
    let message = handle.result().await.unwrap();
    assert_eq!(message, "instance `panics`: of the destructor");
}

/// Awaits joins of selects of joins, with losing branches at every level.
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

/// A future that counts its polls.
struct Polled<F>(F, Arc<AtomicU32>);

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll(context)
    }
}

/// The numbers of polls of the waits of [`long_lived`], one for each test that counts them.
static POLLS: LazyLock<[Arc<AtomicU32>; 2]> = LazyLock::new(Default::default);

/// An event that no wait consumes: it only makes a history longer.
#[event]
struct Filler;

#[orchestration]
async fn long_lived(ctx: OrchestrationContext, counter: usize) -> duroxide::Result<()> {
    loop {
        Polled(ctx.event::<Signal>(), POLLS[counter].clone()).await;
        crate::activities::double::call(&ctx, 1).await?;
    }
}

fn long_lived_registry() -> Registry {
    Registry::empty().with_activity::<crate::activities::double>().with_orchestration::<long_lived>()
}

/// The history events of a round: event raised, activity scheduled, activity completed, event awaited.
const ROUND: u64 = 4;

/// Measures `cost` before and after a round, behind 10 and behind 10,000 events. `events` returns the number of events. The
/// two functions must not change the cost.
async fn costs_behind_ten_and_ten_thousand<C: Copy>(
    client: &Client,
    counter: usize,
    events: impl AsyncFn() -> u64,
    cost: impl Fn() -> C,
) -> [(C, C); 2] {
    let handle = long_lived::start(client, "long", counter).await.unwrap();
    let until = async |length: u64| until_stored(async || events().await >= length).await;
    until(2).await;
    let mut costs = Vec::new();
    for length in [10, 10_000] {
        let missing = length - events().await;
        join_all((0..missing).map(|_| handle.raise(Filler).into_future())).await;
        until(length).await;
        let before = cost();
        handle.raise(Signal).await.unwrap();
        until(length + ROUND).await;
        costs.push((before, cost()));
    }
    duroxide::testing::check_history(&long_lived_registry(), &handle.history().await.unwrap()).unwrap();
    costs.try_into().ok().unwrap()
}

#[tokio::test]
async fn turn_behind_10_000_events_does_no_more_than_behind_10() {
    let provider = faulty(MemoryProvider::new());
    let builder = Runtime::builder().registry(long_lived_registry()).provider(provider.clone());
    let runtime = builder.clock(VirtualClock::new()).start().await.unwrap();
    let client = runtime.client();
    let faults = provider.faults();
    let events = async || client.handle("long").status().await.unwrap().events.0;
    let cost = || (POLLS[0].load(Ordering::SeqCst), faults.begun(Method::Commit), faults.events());
    let costs = costs_behind_ten_and_ten_thousand(&client, 0, events, cost).await;
    for ((polls, commits, events), (later_polls, later_commits, later)) in costs {
        // One poll consumes the event, and one registers the next wait.
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
    let builder = Runtime::builder().registry(long_lived_registry()).options(options);
    let runtime = builder.provider(signalling(provider.clone())).start().await.unwrap();
    let observer = rusqlite::Connection::open(&path).unwrap();
    let events = async || {
        let find = "SELECT coalesce(max(last_event), 0) FROM duroxide_instances";
        observer.query_row(find, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let cost = || provider.stats().statements;
    let costs = costs_behind_ten_and_ten_thousand(&runtime.client(), 1, events, cost).await;
    for (before, after) in costs {
        // A round may include a request for work.
        assert!(after - before < 60, "{costs:?}");
    }
    runtime.shutdown().await.unwrap();
}
