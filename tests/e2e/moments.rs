//! Races: events between a commit and its answer, late requests and answers, requests that their callers have dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use duroxide::clock::{Clock, SystemClock};
use duroxide::prelude::*;
use duroxide::provider::{Admin, Filter, IfExists, InstanceStatus, MemoryProvider, Provider};
use duroxide::sqlite::{SqliteOptions, SqliteProvider};
use duroxide::testing::VirtualClock;
use duroxide::{Client, ErrorCode, Registry, RuntimeOptions, Timestamp};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use support::{Fault, FaultyProvider, Method, faulty, signalling, until_events, until_started, until_stored};

use crate::runtime::{Gate, blocks_at_gate, waits_at_gate, yield_often};

#[event(name = "moments-signal")]
struct Signal;

#[orchestration]
async fn awaits_signal(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    ctx.event::<Signal>().await;
    Ok(1)
}

#[orchestration]
async fn returns_at_once(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    drop(ctx);
    Ok(1)
}

/// Calls a child whose id may be taken, and awaits a signal: the first of the two in its history wins.
#[orchestration]
async fn child_or_signal(ctx: OrchestrationContext, id: String) -> duroxide::Result<String> {
    let child = awaits_signal::call(&ctx).id(id);
    select! {
        _ = ctx.event::<Signal>() => Ok("signal".to_owned()),
        result = child => Ok(format!("{result:?}")),
    }
}

/// Lets [`spins_until_released`] return.
static RELEASE_SPINNING: AtomicBool = AtomicBool::new(false);

#[orchestration]
async fn spins_until_released(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    drop(ctx);
    while !RELEASE_SPINNING.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    Ok(1)
}

#[orchestration]
async fn starts_detached(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let _detached = waits_at_gate::call(&ctx).detached().start();
    ctx.event::<Signal>().await;
    Ok(1)
}

/// Holds the last turn of [`blocks_in_last_turn`].
static LAST_TURN: LazyLock<Gate> = LazyLock::new(Gate::default);

#[orchestration]
async fn blocks_in_last_turn(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let _detached = waits_at_gate::call(&ctx).detached().start();
    ctx.event::<Signal>().await;
    ctx.event::<Signal>().await;
    LAST_TURN.arrive();
    LAST_TURN.block();
    Ok(())
}

/// Continues as new while its detached activity still runs.
#[orchestration]
async fn detaches_and_continues(ctx: OrchestrationContext, detach: bool) -> duroxide::Result<u32> {
    if detach {
        let _detached = waits_at_gate::call(&ctx).detached().start();
        ctx.event::<Signal>().await;
        return detaches_and_continues::continue_as_new(&ctx, false).await;
    }
    ctx.event::<Signal>().await;
    Ok(1)
}

#[orchestration(allow = "this misuse is the subject of the test")]
async fn secretly_not_durable(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let woken = WAKE.lock().unwrap().take().unwrap();
    select! {
        _ = ctx.event::<Signal>() => Ok(1),
        _ = woken => Ok(2),
    }
}

static WAKE: std::sync::Mutex<Option<tokio::sync::oneshot::Receiver<()>>> = std::sync::Mutex::new(None);

fn registry() -> Registry {
    Registry::empty()
        .with_activity::<waits_at_gate>()
        .with_blocking_activity::<blocks_at_gate>()
        .with_orchestration::<awaits_signal>()
        .with_orchestration::<returns_at_once>()
        .with_orchestration::<child_or_signal>()
        .with_orchestration::<spins_until_released>()
        .with_orchestration::<starts_detached>()
        .with_orchestration::<detaches_and_continues>()
        .with_orchestration::<blocks_in_last_turn>()
        .with_orchestration::<secretly_not_durable>()
        .with_orchestration::<blocks_in_turn>()
        .with_orchestration::<blocks_twice>()
        .with_activity::<succeeds_at_third_attempt>()
        .with_orchestration::<backs_off>()
        .with_orchestration::<reads_for_ever>()
        .with_orchestration::<counts_signals>()
}

struct Bench {
    runtime: Runtime,
    gate: Gate,
    provider: FaultyProvider,
    clock: VirtualClock,
}

impl Bench {
    async fn new() -> Self {
        Self::with(RuntimeOptions::default()).await
    }

    async fn with(options: RuntimeOptions) -> Self {
        let (provider, gate) = (faulty(MemoryProvider::new()), Gate::default());
        let clock = VirtualClock::new();
        let runtime = Runtime::builder().registry(registry()).provider(provider.clone()).clock(clock.clone());
        let runtime = runtime.state(gate.clone()).options(options).start().await.unwrap();
        Self { runtime, gate, provider, clock }
    }
}

/// Waits until a node has claimed an instance.
async fn until_owned<O: Orchestration>(bench: &Bench, handle: &Handle<O>) {
    let instance = async || bench.provider.instance(handle.id().unwrap()).await.unwrap().unwrap();
    until_stored(async || instance().await.owner.is_some()).await;
}

#[tokio::test]
async fn detached_activity_outlives_its_orchestration() {
    let bench = Bench::new().await;
    let handle = starts_detached::start(&bench.runtime.client(), "host").await.unwrap();
    bench.gate.until_arrived(1).await;
    handle.raise(Signal).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(bench.provider.nodes().await.unwrap()[0].activities, 1, "the detached activity still runs");
    // When another instance has finished, the node has processed all effects of the first instance's end.
    returns_at_once::start(&bench.runtime.client(), "else").await.unwrap().result().await.unwrap();
    assert!(bench.gate.until_left(1).now_or_never().is_none(), "the detached activity was stopped");
    bench.gate.open();
    bench.gate.until_left(1).await;
    until_no_activity(&bench).await;
}

#[tokio::test]
async fn detached_activity_can_end_while_its_instance_continues() {
    let bench = Bench::new().await;
    let handle = detaches_and_continues::start(&bench.runtime.client(), "host", true).await.unwrap();
    bench.gate.until_arrived(1).await;
    let faults = bench.provider.faults();
    let continued = faults.nth(Method::Commit, 1, Fault::AnswerWaits);
    handle.raise(Signal).await.unwrap();
    continued.await;
    // The activity's outcome is now queued for an execution that has ended, but whose end is not yet confirmed.
    finish_activity(&bench).await;
    faults.release_answers(Method::Commit);
    handle.raise(Signal).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    until_no_activity(&bench).await;
}

#[tokio::test]
async fn detached_activity_can_end_while_its_instance_is_terminated() {
    let bench = Bench::new().await;
    let handle = blocks_in_last_turn::start(&bench.runtime.client(), "host").await.unwrap();
    bench.gate.until_arrived(1).await;
    let faults = bench.provider.faults();
    let first = faults.nth(Method::Commit, 1, Fault::AnswerWaits);
    handle.raise(Signal).await.unwrap();
    first.await;
    // The activity's outcome and a second signal are queued for the next turn, which blocks with both.
    finish_activity(&bench).await;
    handle.raise(Signal).await.unwrap();
    yield_often().await;
    faults.release_answers(Method::Commit);
    LAST_TURN.until_arrived(1).await;
    handle.terminate("enough").await.unwrap();
    LAST_TURN.open();
    until_no_activity(&bench).await;
}

/// Lets the activity at the gate end, and gives the node time to process its outcome.
async fn finish_activity(bench: &Bench) {
    bench.gate.open();
    bench.gate.until_left(1).await;
    yield_often().await;
}

/// Waits until the node reports no running activity.
async fn until_no_activity(bench: &Bench) {
    let none = until_stored(async || bench.provider.nodes().await.unwrap()[0].activities == 0);
    tokio::time::timeout(seconds(10), none).await.expect("an ended activity is reported as running");
}

#[tokio::test]
async fn late_cancellation_spares_the_next_instance_of_the_id() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    let first = starts_detached::start(&client, "host").await.unwrap();
    bench.gate.until_arrived(1).await;
    first.raise(Signal).await.unwrap();
    assert_eq!(first.result().await.unwrap(), 1);
    // The node learns late that its activity was removed.
    bench.provider.faults().hold(Method::Renew);
    first.delete().await.unwrap();
    let second = starts_detached::start(&client, "host").await.unwrap();
    bench.gate.until_arrived(2).await;
    bench.provider.faults().release(Method::Renew);
    bench.gate.until_left(1).await;
    returns_at_once::start(&client, "else").await.unwrap().result().await.unwrap();
    assert_eq!(bench.provider.nodes().await.unwrap()[0].activities, 1);
    assert!(bench.gate.until_left(2).now_or_never().is_none(), "the activity of the second instance was stopped");
    second.raise(Signal).await.unwrap();
    assert_eq!(second.result().await.unwrap(), 1);
    bench.gate.open();
    bench.gate.until_left(2).await;
    until_no_activity(&bench).await;
}

#[tokio::test]
async fn detached_activity_of_an_unconfirmed_turn_runs() {
    let bench = Bench::new().await;
    bench.provider.faults().always(Method::Commit, Fault::AnswerLost);
    let start = starts_detached::start(&bench.runtime.client(), "host").if_exists(IfExists::Attach);
    let handle = start.await.unwrap();
    // The activity belongs to the node, whose commit is unconfirmed.
    until_events(&handle, 2).await;
    handle.terminate("enough").await.unwrap();
    bench.provider.faults().heal();
    bench.gate.until_arrived(1).await;
    bench.gate.open();
    bench.gate.until_left(1).await;
}

#[tokio::test(start_paused = true)]
async fn first_turn_with_a_lost_answer_continues() {
    let bench = Bench::new().await;
    bench.provider.faults().always(Method::Commit, Fault::AnswerLost);
    let handle = starts_detached::start(&bench.runtime.client(), "host").await.unwrap();
    assert_eq!(handle.status().await.unwrap().events.0, 3, "the first turn was written, but not confirmed to the node");
    bench.provider.faults().heal();
    // The scheduled activity is found and run once, and the instance continues.
    bench.gate.until_arrived(1).await;
    handle.raise(Signal).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    bench.gate.open();
    bench.gate.until_left(1).await;
}

#[tokio::test]
async fn start_does_not_wait_for_a_stuck_first_turn() {
    let mut options = RuntimeOptions::default();
    options.turn_warning = Duration::from_millis(20);
    let bench = Bench::with(options).await;
    let handle = spins_until_released::start(&bench.runtime.client(), "long").await.unwrap();
    assert_eq!(handle.status().await.unwrap().events.0, 0, "the start is stored while the first turn still runs");
    RELEASE_SPINNING.store(true, Ordering::SeqCst);
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(handle.history().await.unwrap().len(), 2);
}

#[tokio::test]
async fn refused_start_does_not_affect_the_existing_instance() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    let first = awaits_signal::start(&client, "taken").await.unwrap();
    // The existing instance is live on its node, then evicted, then finished.
    let mut options = RuntimeOptions::default();
    options.max_idle_instances = 0;
    let other = Bench::with(options).await;
    let evicted = awaits_signal::start(&other.runtime.client(), "taken").await.unwrap();
    for client in [&client, &other.runtime.client()] {
        let error = starts_detached::start(client, "taken").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InstanceExists, "{error}");
    }
    for handle in [first, evicted] {
        handle.raise(Signal).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 1);
        assert_eq!(handle.history().await.unwrap().len(), 4);
    }
    for bench in [bench, other] {
        assert!(starts_detached::start(&bench.runtime.client(), "taken").await.is_err());
        assert!(bench.gate.until_arrived(1).now_or_never().is_none(), "an activity of a refused start has run");
        assert_eq!(bench.provider.nodes().await.unwrap()[0].activities, 0);
    }
}

#[tokio::test]
async fn unconfirmed_end_of_a_deleted_child_reaches_its_parent() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    let parent = child_or_signal::start(&client, "parent", "child".to_owned()).await.unwrap();
    let other = Client::new(bench.provider.clone());
    let child = awaits_signal::handle(&other, "child");
    until_started(&child).await;
    until_events(&child, 2).await;
    bench.provider.faults().always(Method::Commit, Fault::AnswerLost);
    child.raise(Signal).await.unwrap();
    bench.provider.wakeups().work();
    assert_eq!(child.wait().await.unwrap(), InstanceStatus::Completed);
    child.delete().await.unwrap();
    bench.provider.faults().heal();
    assert_eq!(parent.result().await.unwrap(), "Ok(1)");
}

#[tokio::test]
async fn late_refused_message_does_not_reach_the_next_instance() {
    let bench = Bench::new().await;
    let (client, faults) = (bench.runtime.client(), bench.provider.faults());
    returns_at_once::start(&client, "id").await.unwrap().result().await.unwrap();
    // The first request fails and stays late; the second is refused, since the instance has finished.
    faults.next(Method::Submit, Fault::Late, 1);
    let other = Client::new(bench.provider.clone()).with_clock(bench.clock.clone());
    assert_eq!(
        awaits_signal::handle(&other, "id").raise(Signal).await.unwrap_err().code(),
        ErrorCode::InstanceFinished
    );
    let next = awaits_signal::start(&client, "id").if_exists(IfExists::Replace).await.unwrap();
    until_events(&next, 2).await;
    faults.release_late();
    yield_often().await;
    assert_eq!(next.status().await.unwrap().events.0, 2, "the next instance has read the refused message");
    next.raise(Signal).await.unwrap();
    assert_eq!(next.result().await.unwrap(), 1);
}

#[tokio::test]
async fn result_of_a_terminated_instance_waits_for_no_commit() {
    let bench = Bench::new().await;
    let faults = bench.provider.faults();
    let handle = awaits_signal::start(&bench.runtime.client(), "id").await.unwrap();
    until_events(&handle, 2).await;
    let begun = faults.begun(Method::Commit);
    faults.hold(Method::Commit);
    handle.raise(Signal).await.unwrap();
    faults.until_begun(Method::Commit, begun + 1).await;
    handle.terminate("enough").await.unwrap();
    let end = tokio::time::timeout(seconds(10), handle.wait()).await;
    assert_eq!(end.expect("it waits for the commit").unwrap(), InstanceStatus::Terminated);
    faults.release(Method::Commit);
}

#[tokio::test]
async fn replacement_during_an_unanswered_commit_is_not_lost() {
    let bench = Bench::new().await;
    let faults = bench.provider.faults();
    let first = awaits_signal::start(&bench.runtime.client(), "id").await.unwrap();
    until_events(&first, 2).await;
    // The instance ends, and the answer of that commit is held back.
    faults.hold_answers(Method::Commit);
    first.raise(Signal).await.unwrap();
    until_stored(async || first.status().await.unwrap().status.is_finished()).await;
    let other = Client::new(bench.provider.clone()).with_clock(bench.clock.clone());
    let second = awaits_signal::start(&other, "id").if_exists(IfExists::Replace).await.unwrap();
    until_owned(&bench, &second).await;
    let asked = faults.begun(Method::Acquire);
    second.raise(Signal).await.unwrap();
    faults.until_begun(Method::Acquire, asked + 1).await;
    faults.release_answers(Method::Commit);
    let result = tokio::time::timeout(seconds(10), second.result()).await;
    assert_eq!(result.expect("the replacement is lost").unwrap(), 1);
}

#[tokio::test]
async fn instance_replaced_on_another_node_gets_its_messages() {
    let bench = Bench::new().await;
    let other = Client::new(bench.provider.clone()).with_clock(bench.clock.clone());
    let first = awaits_signal::start(&other, "id").delay(hours(1)).await.unwrap();
    // An early event: the node claims the instance, and waits for its delayed start.
    first.raise(Signal).await.unwrap();
    until_owned(&bench, &first).await;
    first.terminate("enough").await.unwrap();
    // On a second node, another instance replaces it, makes its first turn, and is released.
    let second = Runtime::builder().registry(registry()).state(bench.gate.clone()).provider(bench.provider.clone());
    let second = second.clock(bench.clock.clone()).start().await.unwrap();
    let handle = awaits_signal::start(&second.client(), "id").if_exists(IfExists::Replace).await.unwrap();
    until_events(&handle, 2).await;
    second.shutdown().await.unwrap();
    let handle = awaits_signal::handle(&other, "id");
    handle.raise(Signal).await.unwrap();
    let result = tokio::time::timeout(seconds(10), handle.result()).await;
    assert_eq!(result.expect("its messages go to the replaced instance").unwrap(), 1);
}

#[orchestration]
async fn blocks_twice(ctx: OrchestrationContext) -> duroxide::Result<Vec<bool>> {
    let first = blocks_at_gate::call(&ctx).timeout(seconds(5)).await;
    let second = blocks_at_gate::call(&ctx).timeout(seconds(5)).await;
    Ok(vec![first.is_ok(), second.is_ok()])
}

#[tokio::test]
async fn timed_out_blocking_activity_keeps_its_permit_until_it_ends() {
    let mut options = RuntimeOptions::default();
    options.max_blocking_activities = 1;
    let bench = Bench::with(options).await;
    let client = bench.runtime.client();
    let handle = blocks_twice::start(&client, "blocks").await.unwrap();
    bench.gate.until_arrived(1).await;
    for (events, id) in [(4, "a"), (4, "b")] {
        bench.clock.advance(seconds(6));
        until_events(&handle, events).await;
        returns_at_once::start(&client, id).await.unwrap().result().await.unwrap();
    }
    assert_eq!(*bench.gate.arrived.borrow(), 1);
    bench.gate.open();
    assert_eq!(
        handle.result().await.unwrap(),
        [false, true],
        "the second call began, and its timeout counted, only after the first activity ended"
    );
}

#[tokio::test]
async fn refused_child_call_does_not_close_the_existing_instance() {
    for end in ["signal", "terminate"] {
        let bench = Bench::new().await;
        let client = bench.runtime.client();
        let existing = awaits_signal::start(&client, "existing").await.unwrap();
        until_events(&existing, 2).await;
        let commits = bench.provider.faults().begun(Method::Commit);
        bench.provider.faults().hold(Method::Commit);
        let parent = child_or_signal::start(&client, "parent", "existing".to_owned()).if_exists(IfExists::Attach);
        let parent = parent.await.unwrap();
        bench.provider.faults().until_begun(Method::Commit, commits + 1).await;
        // The signal arrives before the refusal.
        parent.raise(Signal).await.unwrap();
        if end == "terminate" {
            parent.terminate("enough").await.unwrap();
        }
        bench.provider.faults().release(Method::Commit);
        parent.wait().await.unwrap();
        returns_at_once::start(&client, "else").await.unwrap().result().await.unwrap();
        assert_eq!(existing.status().await.unwrap().status, InstanceStatus::Running, "{end}");
        existing.raise(Signal).await.unwrap();
        assert_eq!(existing.result().await.unwrap(), 1, "{end}");
    }
}

#[tokio::test]
async fn start_dropped_by_its_caller_runs() {
    let folder = tempfile::tempdir().unwrap();
    let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
    let runtime = Runtime::builder().registry(registry()).state(Gate::default()).provider(provider.clone());
    let runtime = runtime.start().await.unwrap();
    let client = runtime.client();
    returns_at_once::start(&client, "first").await.unwrap().result().await.unwrap();
    for n in 0..50 {
        let id = format!("dropped-{n}");
        let start = returns_at_once::start(&client, &id).into_future();
        // The first poll submits the start, which is nearly always dropped before the answer.
        drop(start.now_or_never());
        let handle = returns_at_once::start(&client, &id).if_exists(IfExists::Attach).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 1);
    }
    runtime.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn start_with_lost_answers_runs() {
    let bench = Bench::new().await;
    bench.provider.faults().always(Method::Submit, Fault::AnswerLost);
    let start = returns_at_once::start(&bench.runtime.client(), "lost").if_exists(IfExists::Attach);
    start.await.unwrap_err();
    bench.provider.faults().heal();
    let handle = returns_at_once::handle(&bench.runtime.client(), "lost");
    assert_eq!(handle.result().await.unwrap(), 1);
}

#[tokio::test]
async fn misuse_during_a_commit_is_reported() {
    let bench = Bench::new().await;
    let (wake, woken) = tokio::sync::oneshot::channel();
    *WAKE.lock().unwrap() = Some(woken);
    bench.provider.faults().hold(Method::Commit);
    let start = secretly_not_durable::start(&bench.runtime.client(), "secret").if_exists(IfExists::Attach);
    let handle = start.await.unwrap();
    bench.provider.faults().until_begun(Method::Commit, 1).await;
    wake.send(()).unwrap();
    bench.provider.faults().release(Method::Commit);
    let status = handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
    assert_eq!(status.suspension.unwrap().code, ErrorCode::NonDurableWait);
}

/// Holds the turns of [`blocks_in_turn`].
static TURNS: LazyLock<Gate> = LazyLock::new(Gate::default);

#[orchestration]
async fn blocks_in_turn(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    drop(ctx);
    TURNS.arrive();
    TURNS.block();
    Ok(1)
}

/// A clock that holds the thread of the node at a gate while `enabled`.
#[derive(Clone, Default)]
struct BlockingClock(Arc<BlockState>);

#[derive(Default)]
struct BlockState {
    enabled: AtomicBool,
    gate: Gate,
}

impl Clock for BlockingClock {
    fn now(&self) -> Timestamp {
        if self.0.enabled.load(Ordering::SeqCst) && std::thread::current().name() == Some("duroxide-node") {
            self.0.gate.arrive();
            self.0.gate.block();
        }
        SystemClock.now()
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        SystemClock.sleep_until(due)
    }
}

#[tokio::test(start_paused = true)]
async fn failing_entry_does_not_block_its_neighbours() {
    let (provider, clock) = (faulty(MemoryProvider::new()), BlockingClock::default());
    let client = Client::new(provider.clone());
    let mut handles = Vec::new();
    for n in 0..4 {
        handles.push(blocks_in_turn::start(&client, n.to_string()).await.unwrap());
    }
    let mut options = RuntimeOptions::default();
    options.turn_threads = 1;
    let runtime = Runtime::builder().registry(registry()).provider(provider.clone()).clock(clock.clone());
    let runtime = runtime.state(Gate::default()).options(options).start().await.unwrap();
    // The node has claimed all four instances, and runs their turns one after another.
    TURNS.until_arrived(1).await;
    // One more start wakes the node, whose thread then blocks in the clock.
    clock.0.enabled.store(true, Ordering::SeqCst);
    handles.push(blocks_in_turn::start(&client, "blocked").await.unwrap());
    clock.0.gate.until_arrived(1).await;
    // The node receives the first three turns together, and commits them in one batch.
    TURNS.open();
    TURNS.until_arrived(4).await;
    provider.faults().always(Method::Commit, Fault::FirstEntry);
    clock.0.enabled.store(false, Ordering::SeqCst);
    clock.0.gate.open();
    for handle in &handles[1..3] {
        handle.wait_for(|s| s.status.is_finished()).await.unwrap();
    }
    provider.faults().until_more(Method::Commit, 5).await;
    assert_eq!(handles[0].status().await.unwrap().status, InstanceStatus::Running);
    provider.faults().heal();
    for handle in &handles {
        assert_eq!(handle.result().await.unwrap(), 1);
    }
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn instances_are_released_although_leave_failed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let options = SqliteOptions::new().busy_timeout(Duration::from_millis(10));
    let provider = SqliteProvider::open_with(&path, options).unwrap();
    let start = || {
        let builder = Runtime::builder().registry(registry()).state(Gate::default());
        builder.provider(signalling(provider.clone())).start()
    };
    let runtime = start().await.unwrap();
    let handle = awaits_signal::start(&runtime.client(), "released").await.unwrap();
    until_events(&handle, 2).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    runtime.shutdown().await.unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    // The provider, and with it the lock file of the node, is still open in this process.
    let next = start().await.unwrap();
    let handle = awaits_signal::handle(&next.client(), "released");
    handle.raise(Signal).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    next.shutdown().await.unwrap();
}

/// A clock that panics once it is broken, as a bug in the node would.
#[derive(Clone, Default)]
struct PanickingClock(Arc<AtomicBool>);

impl Clock for PanickingClock {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "the clock is broken");
        Timestamp::from_micros(0)
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn instances_of_a_panicked_node_are_claimed() {
    let provider = signalling(MemoryProvider::new());
    let clock = PanickingClock::default();
    let mut options = RuntimeOptions::default();
    options.lease_time = Duration::from_millis(15);
    let start = || Runtime::builder().registry(registry()).state(Gate::default()).provider(provider.clone());
    let broken = start().clock(clock.clone()).options(options).start().await.unwrap();
    let handle = awaits_signal::start(&broken.client(), "orphan").await.unwrap();
    until_events(&handle, 2).await;
    clock.0.store(true, Ordering::SeqCst);
    let next = start().start().await.unwrap();
    let handle = awaits_signal::handle(&next.client(), "orphan");
    handle.raise(Signal).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert!(broken.shutdown().await.unwrap_err().to_string().contains("died"));
}

#[tokio::test]
async fn maximal_durations_and_numbers_are_accepted() {
    let mut options = RuntimeOptions::default();
    options.turn_warning = Duration::MAX;
    options.drain = Duration::MAX;
    options.lease_time = Duration::MAX;
    options.max_activities = usize::MAX;
    options.max_blocking_activities = usize::MAX;
    // Nothing stays in memory, so that every turn replays its history.
    options.max_idle_instances = 0;
    let gate = Gate::default();
    gate.open();
    let runtime = Runtime::builder().registry(registry()).in_memory().state(gate).options(options);
    let runtime = runtime.start().await.unwrap();
    let handle = starts_detached::start(&runtime.client(), "host").await.unwrap();
    handle.raise(Signal).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(backs_off::start(&runtime.client(), "backs off").await.unwrap().result().await.unwrap(), 3);
    let none = RetryPolicy::new().initial_interval(Duration::ZERO).backoff(f64::INFINITY);
    assert_eq!(none.pause_after(u32::MAX), Some(Duration::ZERO));
    runtime.shutdown().await.unwrap();
}

#[activity]
async fn succeeds_at_third_attempt(ctx: ActivityContext) -> duroxide::Result<u32> {
    if ctx.attempt() < 3 { Err(duroxide::Error::new("not yet")) } else { Ok(ctx.attempt()) }
}

#[orchestration]
async fn backs_off(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let policy =
        RetryPolicy::new().initial_interval(Duration::ZERO).backoff(f64::INFINITY).max_interval(Duration::ZERO);
    Ok(succeeds_at_third_attempt::call(&ctx).retry(policy).await?)
}

/// Drops a request once the provider has got this number of calls for it.
async fn abandon_after<T>(bench: &Bench, method: Method, calls: usize, request: impl IntoFuture<Output = T>) {
    let calls = bench.provider.faults().begun(method) + calls;
    tokio::select! {
        _ = request.into_future() => panic!("the request was answered"),
        () = bench.provider.faults().until_begun(method, calls) => {}
    }
}

/// Runs another instance to its end, so that the node has re-checked the abandoned request at least once.
async fn run_another_instance(bench: &Bench) {
    returns_at_once::start(&bench.runtime.client(), "else").await.unwrap().result().await.unwrap();
}

#[tokio::test]
async fn late_message_of_an_abandoned_request_is_read() {
    let bench = Bench::new().await;
    let handle = awaits_signal::start(&bench.runtime.client(), "abandoned").await.unwrap();
    until_events(&handle, 2).await;
    let faults = bench.provider.faults();
    faults.next(Method::Submit, Fault::Late, 1);
    faults.next(Method::Submit, Fault::Hangs, 1);
    abandon_after(&bench, Method::Submit, 2, handle.raise(Signal)).await;
    run_another_instance(&bench).await;
    faults.release_late();
    assert_eq!(handle.result().await.unwrap(), 1);
}

#[tokio::test]
async fn late_first_turn_of_an_abandoned_start_continues() {
    for at in [Method::Commit, Method::Submit] {
        let bench = Bench::new().await;
        let client = bench.runtime.client();
        let faults = bench.provider.faults();
        faults.next(Method::Commit, Fault::Late, 1);
        faults.hold(at);
        abandon_after(&bench, at, 1, starts_detached::start(&client, "host")).await;
        faults.release(at);
        run_another_instance(&bench).await;
        faults.release_late();
        bench.gate.until_arrived(1).await;
        let handle = starts_detached::handle(&client, "host");
        handle.raise(Signal).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 1);
    }
}

#[orchestration]
async fn counts_signals(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    for _ in 0..n {
        ctx.event::<Signal>().await;
    }
    Ok(n)
}

#[tokio::test]
async fn late_claim_answer_delivers_no_event_twice() {
    let bench = Bench::new().await;
    let handle = counts_signals::start(&bench.runtime.client(), "counts", 3).await.unwrap();
    until_events(&handle, 2).await;
    let faults = bench.provider.faults();
    for (signal, events) in [(1, 4), (2, 6)] {
        let (commits, asked) = (faults.begun(Method::Commit), faults.begun(Method::Acquire));
        faults.hold(Method::Commit);
        faults.hold_answers(Method::Acquire);
        handle.raise(Signal).await.unwrap();
        // The answer to this request contains the event, which the node reads from memory before the answer arrives.
        bench.provider.wakeups().work();
        faults.until_begun(Method::Acquire, asked + 1).await;
        faults.release(Method::Commit);
        until_events(&handle, events).await;
        faults.release_answers(Method::Acquire);
        returns_at_once::start(&bench.runtime.client(), signal.to_string()).await.unwrap().result().await.unwrap();
        assert_eq!(faults.begun(Method::Commit), commits + 2, "the late answer leads to no commit");
    }
    assert_eq!(faults.begun(Method::History), 0, "the live copy was kept");
    handle.raise(Signal).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 3);
}

/// Reads events forever.
#[orchestration]
async fn reads_for_ever(ctx: OrchestrationContext) -> duroxide::Result<()> {
    loop {
        ctx.event::<Signal>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn busy_instance_can_be_terminated() {
    let bench = Bench::new().await;
    let handle = reads_for_ever::start(&bench.runtime.client(), "busy").await.unwrap();
    until_events(&handle, 2).await;
    // The instance always advances between the read and the request to terminate.
    bench.provider.faults().refuse_terminations();
    handle.terminate("enough").await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Terminated);
}

#[tokio::test]
async fn instance_with_an_unreadable_history_can_be_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let provider = signalling(SqliteProvider::open(&path).unwrap());
    let runtime =
        Runtime::builder().registry(registry()).state(Gate::default()).provider(provider).start().await.unwrap();
    let handle = awaits_signal::start(&runtime.client(), "unreadable").await.unwrap();
    until_events(&handle, 2).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute("UPDATE duroxide_events SET format = 999 WHERE id = 2", []).unwrap();
    handle.terminate("its history is unreadable").await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Terminated);
    handle.delete().await.unwrap();
    let left = runtime.client().list(&Filter::default(), 10).await.unwrap();
    assert!(left.instances.is_empty());
    runtime.shutdown().await.unwrap();
}
