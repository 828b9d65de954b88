//! Odd moments: what happens between a commit and its answer, and to whom nobody listens any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{Filter, IfExists, InstanceStatus, MemoryProvider, Provider};
use duroxide::sqlite::{SqliteOptions, SqliteProvider};
use duroxide::testing::VirtualClock;
use duroxide::{Client, Clock, ErrorCode, Registry, RuntimeOptions, SystemClock, Timestamp};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use support::{Fault, FaultyProvider, Method};

use crate::runtime::{Door, blocks_at_door, waits_at_door};

#[event]
struct Knock;

#[orchestration]
async fn listens(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    ctx.event::<Knock>().await;
    Ok(1)
}

#[orchestration]
async fn passes_by(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    drop(ctx);
    Ok(1)
}

/// A child under an id that may be taken, or an event: whichever comes first in its history.
#[orchestration]
async fn child_or_knock(ctx: OrchestrationContext, id: String) -> duroxide::Result<String> {
    let child = listens::call(&ctx).id(id);
    select! {
        _ = ctx.event::<Knock>() => Ok("knock".to_owned()),
        result = child => Ok(format!("{result:?}")),
    }
}

/// Whether [`waits_for_leave`] may return.
static LEAVE: AtomicBool = AtomicBool::new(false);

#[orchestration]
async fn waits_for_leave(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    drop(ctx);
    while !LEAVE.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    Ok(1)
}

#[orchestration]
async fn leaves_a_visitor(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let _visitor = waits_at_door::call(&ctx).detached().start();
    ctx.event::<Knock>().await;
    Ok(1)
}

/// Whether the last turn of [`holds_on`] has begun, and may end.
static HOLDS: AtomicBool = AtomicBool::new(false);
static LETS_GO: AtomicBool = AtomicBool::new(false);

#[orchestration]
async fn holds_on(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let _visitor = waits_at_door::call(&ctx).detached().start();
    ctx.event::<Knock>().await;
    ctx.event::<Knock>().await;
    HOLDS.store(true, Ordering::SeqCst);
    while !LETS_GO.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    Ok(())
}

/// Goes on as another execution while its visitor is still there.
#[orchestration]
async fn leaves_a_visitor_behind(ctx: OrchestrationContext, leaves: bool) -> duroxide::Result<u32> {
    if leaves {
        let _visitor = waits_at_door::call(&ctx).detached().start();
        ctx.event::<Knock>().await;
        return leaves_a_visitor_behind::continue_as_new(&ctx, false).await;
    }
    ctx.event::<Knock>().await;
    Ok(1)
}

#[orchestration(allow = "the test is about what happens then")]
async fn secretly_not_durable(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let woken = WAKE.lock().unwrap().take().unwrap();
    select! {
        _ = ctx.event::<Knock>() => Ok(1),
        _ = woken => Ok(2),
    }
}

static WAKE: std::sync::Mutex<Option<tokio::sync::oneshot::Receiver<()>>> = std::sync::Mutex::new(None);

fn registry() -> Registry {
    Registry::empty()
        .with_activity::<waits_at_door>()
        .with_blocking_activity::<blocks_at_door>()
        .with_orchestration::<listens>()
        .with_orchestration::<passes_by>()
        .with_orchestration::<child_or_knock>()
        .with_orchestration::<waits_for_leave>()
        .with_orchestration::<leaves_a_visitor>()
        .with_orchestration::<leaves_a_visitor_behind>()
        .with_orchestration::<holds_on>()
        .with_orchestration::<secretly_not_durable>()
        .with_orchestration::<takes_its_turn>()
        .with_orchestration::<blocks_twice>()
        .with_activity::<good_at_third>()
        .with_orchestration::<backs_off>()
        .with_orchestration::<never_rests>()
        .with_orchestration::<counts_knocks>()
}

struct Bench {
    runtime: Runtime,
    door: Door,
    provider: FaultyProvider,
    clock: VirtualClock,
}

impl Bench {
    async fn new() -> Self {
        Self::with(RuntimeOptions::default()).await
    }

    async fn with(options: RuntimeOptions) -> Self {
        let (provider, door) = (FaultyProvider::new(MemoryProvider::new()), Door::default());
        let clock = VirtualClock::new();
        let runtime = Runtime::builder().registry(registry()).provider(provider.clone()).clock(clock.clone());
        let runtime = runtime.state(door.clone()).options(options).start().await.unwrap();
        Self { runtime, door, provider, clock }
    }
}

/// Waits until an instance has so many events.
async fn until_events<O: Orchestration>(handle: &Handle<O>, events: u64) {
    while handle.status().await.unwrap().events.0 < events {
        tokio::task::yield_now().await;
    }
}

/// Waits until a node has taken an instance on.
async fn until_owned<O: Orchestration>(bench: &Bench, handle: &Handle<O>) {
    while bench.provider.instance(handle.id().unwrap()).await.unwrap().unwrap().owner.is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn detached_activity_outlives_its_orchestration() {
    let bench = Bench::new().await;
    let handle = leaves_a_visitor::start(&bench.runtime.client(), "host").await.unwrap();
    bench.door.until_came(1).await;
    handle.raise(Knock).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(bench.provider.nodes().await.unwrap()[0].activities, 1, "it is still there");
    // Something else is done meanwhile, so that whatever follows from the end has followed.
    passes_by::start(&bench.runtime.client(), "else").await.unwrap().result().await.unwrap();
    assert!(bench.door.until_gone(1).now_or_never().is_none(), "it goes on");
    bench.door.open();
    bench.door.until_gone(1).await;
    while bench.provider.nodes().await.unwrap()[0].activities > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn detached_activity_can_end_while_its_instance_continues() {
    let bench = Bench::new().await;
    let handle = leaves_a_visitor_behind::start(&bench.runtime.client(), "host", true).await.unwrap();
    bench.door.until_came(1).await;
    let faults = bench.provider.faults();
    let goes_on = faults.nth(Method::Commit, 1, Fault::AnswerWaits);
    handle.raise(Knock).await.unwrap();
    goes_on.await;
    // Its end now waits for the execution that is over, and not yet known to be.
    the_visitor_leaves(&bench).await;
    faults.release_answers(Method::Commit);
    handle.raise(Knock).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    until_none_counts(&bench).await;
}

#[tokio::test]
async fn detached_activity_can_end_while_its_instance_is_terminated() {
    let bench = Bench::new().await;
    let handle = holds_on::start(&bench.runtime.client(), "host").await.unwrap();
    bench.door.until_came(1).await;
    let faults = bench.provider.faults();
    let first = faults.nth(Method::Commit, 1, Fault::AnswerWaits);
    handle.raise(Knock).await.unwrap();
    first.await;
    // Its end, and the event behind it, are for the next turn, which holds on to both.
    the_visitor_leaves(&bench).await;
    handle.raise(Knock).await.unwrap();
    a_moment().await;
    faults.release_answers(Method::Commit);
    while !HOLDS.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    handle.terminate("enough").await.unwrap();
    LETS_GO.store(true, Ordering::SeqCst);
    until_none_counts(&bench).await;
}

/// The activity at the door ends, and the node hears of it.
async fn the_visitor_leaves(bench: &Bench) {
    bench.door.open();
    bench.door.until_gone(1).await;
    a_moment().await;
}

/// After this the node has mostly heard of what has happened. Where it has not, a test sees less, and does not fail.
async fn a_moment() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

/// Waits until no activity counts as running.
async fn until_none_counts(bench: &Bench) {
    let none = async {
        while bench.provider.nodes().await.unwrap()[0].activities > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(10), none).await.expect("it counts as running");
}

#[tokio::test]
async fn late_cancellation_spares_the_next_instance_of_the_id() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    let first = leaves_a_visitor::start(&client, "host").await.unwrap();
    bench.door.until_came(1).await;
    first.raise(Knock).await.unwrap();
    assert_eq!(first.result().await.unwrap(), 1);
    // The node hears late that its activity was removed.
    bench.provider.faults().hold(Method::Renew);
    first.delete().await.unwrap();
    let second = leaves_a_visitor::start(&client, "host").await.unwrap();
    bench.door.until_came(2).await;
    bench.provider.faults().release(Method::Renew);
    bench.door.until_gone(1).await;
    passes_by::start(&client, "else").await.unwrap().result().await.unwrap();
    assert_eq!(bench.provider.nodes().await.unwrap()[0].activities, 1);
    assert!(bench.door.until_gone(2).now_or_never().is_none(), "that of the second goes on");
    second.raise(Knock).await.unwrap();
    assert_eq!(second.result().await.unwrap(), 1);
    bench.door.open();
    bench.door.until_gone(2).await;
    while bench.provider.nodes().await.unwrap()[0].activities > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn detached_activity_of_an_unconfirmed_turn_runs() {
    let bench = Bench::new().await;
    bench.provider.faults().always(Method::Commit, Fault::AnswerLost);
    let start = leaves_a_visitor::start(&bench.runtime.client(), "host").if_exists(IfExists::Attach);
    let handle = start.await.unwrap();
    // The activity belongs to the node, which does not know.
    until_events(&handle, 2).await;
    handle.terminate("enough").await.unwrap();
    bench.provider.faults().heal();
    bench.door.until_came(1).await;
    bench.door.open();
    bench.door.until_gone(1).await;
}

#[tokio::test(start_paused = true)]
async fn first_turn_with_a_lost_answer_continues() {
    let bench = Bench::new().await;
    bench.provider.faults().always(Method::Commit, Fault::AnswerLost);
    let handle = leaves_a_visitor::start(&bench.runtime.client(), "host").await.unwrap();
    assert_eq!(handle.status().await.unwrap().events.0, 3, "it was written, which the node does not know");
    bench.provider.faults().heal();
    // What it scheduled is found and run, once, and it goes on.
    bench.door.until_came(1).await;
    handle.raise(Knock).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    bench.door.open();
    bench.door.until_gone(1).await;
}

#[tokio::test]
async fn start_does_not_wait_for_a_stuck_first_turn() {
    let mut options = RuntimeOptions::default();
    options.turn_warning = Duration::from_millis(20);
    let bench = Bench::with(options).await;
    let handle = waits_for_leave::start(&bench.runtime.client(), "long").await.unwrap();
    assert_eq!(handle.status().await.unwrap().events.0, 0, "it is stored, and its turn goes on");
    LEAVE.store(true, Ordering::SeqCst);
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(handle.history().await.unwrap().len(), 2);
}

#[tokio::test]
async fn refused_start_does_not_affect_the_existing_instance() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    let first = listens::start(&client, "taken").await.unwrap();
    // Live here, not live here, ended.
    let mut options = RuntimeOptions::default();
    options.max_idle_instances = 0;
    let other = Bench::with(options).await;
    let evicted = listens::start(&other.runtime.client(), "taken").await.unwrap();
    for client in [&client, &other.runtime.client()] {
        let error = leaves_a_visitor::start(client, "taken").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InstanceExists, "{error}");
    }
    for handle in [first, evicted] {
        handle.raise(Knock).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 1);
        assert_eq!(handle.history().await.unwrap().len(), 4);
    }
    for bench in [bench, other] {
        assert!(leaves_a_visitor::start(&bench.runtime.client(), "taken").await.is_err());
        assert!(bench.door.until_came(1).now_or_never().is_none(), "no activity of theirs has run");
        assert_eq!(bench.provider.nodes().await.unwrap()[0].activities, 0);
    }
}

#[tokio::test]
async fn unconfirmed_end_of_a_deleted_child_reaches_its_parent() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    let parent = child_or_knock::start(&client, "parent", "child".to_owned()).await.unwrap();
    let other = Client::new(bench.provider.clone());
    let child = listens::handle(&other, "child");
    while child.status().await.is_err() {
        tokio::task::yield_now().await;
    }
    until_events(&child, 2).await;
    bench.provider.faults().always(Method::Commit, Fault::AnswerLost);
    child.raise(Knock).await.unwrap();
    bench.provider.wakeups().work();
    assert_eq!(child.wait().await.unwrap(), InstanceStatus::Completed);
    child.delete().await.unwrap();
    bench.provider.faults().heal();
    assert_eq!(parent.result().await.unwrap(), "Ok(1)");
}

#[tokio::test]
async fn late_claim_answer_does_not_restore_an_old_state() {
    let mut options = RuntimeOptions::default();
    options.max_idle_instances = 0;
    let bench = Bench::with(options).await;
    let (client, faults) = (bench.runtime.client(), bench.provider.faults());
    let something_else = async |id: &str| passes_by::start(&client, id).await.unwrap().result().await.unwrap();
    something_else("first").await;
    // The node finds the start by itself and asks for the instance, before it is told.
    faults.hold_answers(Method::Submit);
    faults.pass(Method::Acquire, 1);
    faults.next(Method::Acquire, Fault::AnswerWaits, 1);
    let (submitted, asked) = (faults.begun(Method::Submit), faults.begun(Method::Acquire));
    let start = tokio::spawn(listens::start(&client, "late").if_exists(IfExists::Attach).into_future());
    faults.until_begun(Method::Submit, submitted + 1).await;
    bench.provider.wakeups().work();
    faults.until_begun(Method::Acquire, asked + 2).await;
    // It makes its first turn, and leaves the memory, before the answer comes.
    faults.release_answers(Method::Submit);
    let handle = start.await.unwrap().unwrap();
    until_events(&handle, 2).await;
    something_else("meanwhile").await;
    faults.release_answers(Method::Acquire);
    something_else("then").await;
    handle.raise(Knock).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
}

#[tokio::test]
async fn late_refused_message_does_not_reach_the_next_instance() {
    let bench = Bench::new().await;
    let (client, faults) = (bench.runtime.client(), bench.provider.faults());
    passes_by::start(&client, "id").await.unwrap().result().await.unwrap();
    // It fails, is sent again, and its sender is told that nobody is there.
    faults.next(Method::Submit, Fault::Late, 1);
    let other = Client::new(bench.provider.clone()).with_clock(bench.clock.clone());
    assert_eq!(listens::handle(&other, "id").raise(Knock).await.unwrap_err().code(), ErrorCode::InstanceFinished);
    let next = listens::start(&client, "id").if_exists(IfExists::Replace).await.unwrap();
    until_events(&next, 2).await;
    faults.release_late();
    a_moment().await;
    assert_eq!(next.status().await.unwrap().events.0, 2, "it has read what was refused");
    next.raise(Knock).await.unwrap();
    assert_eq!(next.result().await.unwrap(), 1);
}

#[tokio::test]
async fn replacement_during_an_unanswered_commit_is_not_lost() {
    let bench = Bench::new().await;
    let faults = bench.provider.faults();
    let first = listens::start(&bench.runtime.client(), "id").await.unwrap();
    until_events(&first, 2).await;
    // It ends, and its node does not know.
    faults.hold_answers(Method::Commit);
    first.raise(Knock).await.unwrap();
    while !first.status().await.unwrap().status.is_finished() {
        tokio::task::yield_now().await;
    }
    let other = Client::new(bench.provider.clone()).with_clock(bench.clock.clone());
    let second = listens::start(&other, "id").if_exists(IfExists::Replace).await.unwrap();
    until_owned(&bench, &second).await;
    let asked = faults.begun(Method::Acquire);
    second.raise(Knock).await.unwrap();
    faults.until_begun(Method::Acquire, asked + 1).await;
    faults.release_answers(Method::Commit);
    let result = tokio::time::timeout(seconds(10), second.result()).await;
    assert_eq!(result.expect("it is forgotten").unwrap(), 1);
}

#[tokio::test]
async fn instance_replaced_on_another_node_gets_its_messages() {
    let bench = Bench::new().await;
    let other = Client::new(bench.provider.clone()).with_clock(bench.clock.clone());
    let first = listens::start(&other, "id").delay(hours(1)).await.unwrap();
    // An early event: the node has it now, and waits for its start.
    first.raise(Knock).await.unwrap();
    until_owned(&bench, &first).await;
    first.terminate("enough").await.unwrap();
    // Another takes the id on a second node, begins, and is left.
    let second = Runtime::builder().registry(registry()).state(bench.door.clone()).provider(bench.provider.clone());
    let second = second.clock(bench.clock.clone()).start().await.unwrap();
    let handle = listens::start(&second.client(), "id").if_exists(IfExists::Replace).await.unwrap();
    until_events(&handle, 2).await;
    second.shutdown().await.unwrap();
    let handle = listens::handle(&other, "id");
    handle.raise(Knock).await.unwrap();
    let result = tokio::time::timeout(seconds(10), handle.result()).await;
    assert_eq!(result.expect("its messages go to the one before").unwrap(), 1);
}

#[orchestration]
async fn blocks_twice(ctx: OrchestrationContext) -> duroxide::Result<Vec<bool>> {
    let first = blocks_at_door::call(&ctx).timeout(seconds(5)).await;
    let second = blocks_at_door::call(&ctx).timeout(seconds(5)).await;
    Ok(vec![first.is_ok(), second.is_ok()])
}

#[tokio::test]
async fn timed_out_blocking_activity_keeps_its_permit_until_it_ends() {
    let mut options = RuntimeOptions::default();
    options.max_blocking_activities = 1;
    let bench = Bench::with(options).await;
    let client = bench.runtime.client();
    let handle = blocks_twice::start(&client, "blocks").await.unwrap();
    bench.door.until_came(1).await;
    for (events, id) in [(4, "a"), (4, "b")] {
        bench.clock.advance(seconds(6));
        until_events(&handle, events).await;
        passes_by::start(&client, id).await.unwrap().result().await.unwrap();
    }
    assert_eq!(*bench.door.came.borrow(), 1);
    bench.door.open();
    assert_eq!(handle.result().await.unwrap(), [false, true], "the second had not begun when its limit passed");
}

#[tokio::test]
async fn refused_child_call_does_not_close_the_existing_instance() {
    for end in ["knock", "terminate"] {
        let bench = Bench::new().await;
        let client = bench.runtime.client();
        let stranger = listens::start(&client, "stranger").await.unwrap();
        until_events(&stranger, 2).await;
        let commits = bench.provider.faults().begun(Method::Commit);
        bench.provider.faults().hold(Method::Commit);
        let parent = child_or_knock::start(&client, "parent", "stranger".to_owned()).if_exists(IfExists::Attach);
        let parent = parent.await.unwrap();
        bench.provider.faults().until_begun(Method::Commit, commits + 1).await;
        // It comes before the refusal.
        parent.raise(Knock).await.unwrap();
        if end == "terminate" {
            parent.terminate("enough").await.unwrap();
        }
        bench.provider.faults().release(Method::Commit);
        parent.wait().await.unwrap();
        passes_by::start(&client, "else").await.unwrap().result().await.unwrap();
        assert_eq!(stranger.status().await.unwrap().status, InstanceStatus::Running, "{end}");
        stranger.raise(Knock).await.unwrap();
        assert_eq!(stranger.result().await.unwrap(), 1, "{end}");
    }
}

#[tokio::test]
async fn start_dropped_by_its_caller_runs() {
    let folder = tempfile::tempdir().unwrap();
    let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
    let runtime = Runtime::builder().registry(registry()).state(Door::default()).provider(provider.clone());
    let runtime = runtime.start().await.unwrap();
    let client = runtime.client();
    passes_by::start(&client, "first").await.unwrap().result().await.unwrap();
    for n in 0..50 {
        let id = format!("dropped-{n}");
        let start = passes_by::start(&client, &id).into_future();
        // Handed in, and nearly always given up before the answer.
        drop(start.now_or_never());
        let handle = passes_by::start(&client, &id).if_exists(IfExists::Attach).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 1);
    }
    runtime.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn start_with_lost_answers_runs() {
    let bench = Bench::new().await;
    bench.provider.faults().always(Method::Submit, Fault::AnswerLost);
    let start = passes_by::start(&bench.runtime.client(), "lost").if_exists(IfExists::Attach);
    start.await.unwrap_err();
    bench.provider.faults().heal();
    let handle = passes_by::handle(&bench.runtime.client(), "lost");
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

/// Turns of [`takes_its_turn`] that have begun, and whether they may end.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static MAY_END: AtomicBool = AtomicBool::new(false);

#[orchestration]
async fn takes_its_turn(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    drop(ctx);
    BEGUN.fetch_add(1, Ordering::SeqCst);
    while !MAY_END.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    Ok(1)
}

/// Holds up the node, once it is told to, when it asks for the time.
#[derive(Clone, Default)]
struct HoldsUp(Arc<Held>);

#[derive(Default)]
struct Held {
    wanted: AtomicBool,
    node: AtomicBool,
}

impl Clock for HoldsUp {
    fn now(&self) -> Timestamp {
        while self.0.wanted.load(Ordering::SeqCst) && std::thread::current().name() == Some("duroxide-node") {
            self.0.node.store(true, Ordering::SeqCst);
            std::thread::yield_now();
        }
        SystemClock.now()
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        SystemClock.sleep_until(due)
    }
}

#[tokio::test(start_paused = true)]
async fn failing_entry_does_not_block_its_neighbours() {
    let (provider, clock) = (FaultyProvider::new(MemoryProvider::new()), HoldsUp::default());
    let client = Client::new(provider.clone());
    let mut handles = Vec::new();
    for n in 0..4 {
        handles.push(takes_its_turn::start(&client, n.to_string()).await.unwrap());
    }
    let mut options = RuntimeOptions::default();
    options.turn_threads = 1;
    let runtime = Runtime::builder().registry(registry()).provider(provider.clone()).clock(clock.clone());
    let runtime = runtime.state(Door::default()).options(options).start().await.unwrap();
    // The node has found all four, and begun with their turns, which follow each other.
    while BEGUN.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // One more wakes it, and it is held up there.
    clock.0.wanted.store(true, Ordering::SeqCst);
    handles.push(takes_its_turn::start(&client, "held up").await.unwrap());
    while !clock.0.node.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    // It sees the ends of the first three turns together, and commits them together.
    MAY_END.store(true, Ordering::SeqCst);
    while BEGUN.load(Ordering::SeqCst) < 4 {
        std::thread::yield_now();
    }
    provider.faults().always(Method::Commit, Fault::FirstEntry);
    clock.0.wanted.store(false, Ordering::SeqCst);
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
    let start = || Runtime::builder().registry(registry()).state(Door::default()).provider(provider.clone()).start();
    let runtime = start().await.unwrap();
    let handle = listens::start(&runtime.client(), "left behind").await.unwrap();
    until_events(&handle, 2).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    runtime.shutdown().await.unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    // The provider lives on in this process, and so did the lock of the node.
    let next = start().await.unwrap();
    let handle = listens::handle(&next.client(), "left behind");
    handle.raise(Knock).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    next.shutdown().await.unwrap();
}

/// Tells no time any more once it is broken.
#[derive(Clone, Default)]
struct Breaks(Arc<AtomicBool>);

impl Clock for Breaks {
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
    let provider = MemoryProvider::new();
    let clock = Breaks::default();
    let mut options = RuntimeOptions::default();
    options.lease_time = Duration::from_millis(15);
    let start = || Runtime::builder().registry(registry()).state(Door::default()).provider(provider.clone());
    let broken = start().clock(clock.clone()).options(options).start().await.unwrap();
    let handle = listens::start(&broken.client(), "orphan").await.unwrap();
    until_events(&handle, 2).await;
    clock.0.store(true, Ordering::SeqCst);
    let next = start().start().await.unwrap();
    let handle = listens::handle(&next.client(), "orphan");
    handle.raise(Knock).await.unwrap();
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
    // Nothing stays in memory, so that every turn reads what was recorded.
    options.max_idle_instances = 0;
    let door = Door::default();
    door.open();
    let runtime = Runtime::builder().registry(registry()).in_memory().state(door).options(options);
    let runtime = runtime.start().await.unwrap();
    // By somebody else, so that the activity goes through the queue.
    let handle = leaves_a_visitor::start(&runtime.client(), "host").await.unwrap();
    handle.raise(Knock).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(backs_off::start(&runtime.client(), "backs off").await.unwrap().result().await.unwrap(), 3);
    let none = RetryPolicy::new().initial_interval(Duration::ZERO).backoff(f64::INFINITY);
    assert_eq!(none.pause_after(u32::MAX), Some(Duration::ZERO));
    runtime.shutdown().await.unwrap();
}

#[activity]
async fn good_at_third(ctx: ActivityContext) -> duroxide::Result<u32> {
    if ctx.attempt() < 3 { Err(duroxide::Error::new("not yet")) } else { Ok(ctx.attempt()) }
}

#[orchestration]
async fn backs_off(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let policy =
        RetryPolicy::new().initial_interval(Duration::ZERO).backoff(f64::INFINITY).max_interval(Duration::ZERO);
    Ok(good_at_third::call(&ctx).retry(policy).await?)
}

/// Waits until the storage has been asked so often, and then no more.
async fn loses_patience<T>(bench: &Bench, method: Method, calls: usize, asked: impl IntoFuture<Output = T>) {
    let calls = bench.provider.faults().begun(method) + calls;
    tokio::select! {
        _ = asked.into_future() => panic!("it was answered"),
        () = bench.provider.faults().until_begun(method, calls) => {}
    }
}

/// Something else goes through the node meanwhile, so that it has looked for what came of what was asked.
async fn has_looked(bench: &Bench) {
    passes_by::start(&bench.runtime.client(), "else").await.unwrap().result().await.unwrap();
}

#[tokio::test]
async fn late_message_of_an_abandoned_request_is_read() {
    let bench = Bench::new().await;
    let handle = listens::start(&bench.runtime.client(), "patient").await.unwrap();
    until_events(&handle, 2).await;
    let faults = bench.provider.faults();
    faults.next(Method::Submit, Fault::Late, 1);
    faults.next(Method::Submit, Fault::Hangs, 1);
    loses_patience(&bench, Method::Submit, 2, handle.raise(Knock)).await;
    has_looked(&bench).await;
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
        loses_patience(&bench, at, 1, leaves_a_visitor::start(&client, "host")).await;
        faults.release(at);
        has_looked(&bench).await;
        faults.release_late();
        bench.door.until_came(1).await;
        let handle = leaves_a_visitor::handle(&client, "host");
        handle.raise(Knock).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 1);
    }
}

#[orchestration]
async fn counts_knocks(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    for _ in 0..n {
        ctx.event::<Knock>().await;
    }
    Ok(n)
}

#[tokio::test]
async fn late_claim_answer_delivers_no_event_twice() {
    let bench = Bench::new().await;
    let handle = counts_knocks::start(&bench.runtime.client(), "counts", 3).await.unwrap();
    until_events(&handle, 2).await;
    let faults = bench.provider.faults();
    for (knock, events) in [(1, 4), (2, 6)] {
        let (commits, asked) = (faults.begun(Method::Commit), faults.begun(Method::Acquire));
        faults.hold(Method::Commit);
        faults.hold_answers(Method::Acquire);
        handle.raise(Knock).await.unwrap();
        // The question is answered with the event, which is read meanwhile.
        bench.provider.wakeups().work();
        faults.until_begun(Method::Acquire, asked + 1).await;
        faults.release(Method::Commit);
        until_events(&handle, events).await;
        faults.release_answers(Method::Acquire);
        passes_by::start(&bench.runtime.client(), knock.to_string()).await.unwrap().result().await.unwrap();
        assert_eq!(faults.begun(Method::Commit), commits + 2, "nothing is committed that has to be refused");
    }
    assert_eq!(faults.begun(Method::History), 0, "the live copy is good");
    handle.raise(Knock).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 3);
}

/// Reads events for ever.
#[orchestration]
async fn never_rests(ctx: OrchestrationContext) -> duroxide::Result<()> {
    loop {
        ctx.event::<Knock>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn busy_instance_can_be_terminated() {
    let bench = Bench::new().await;
    let handle = never_rests::start(&bench.runtime.client(), "restless").await.unwrap();
    until_events(&handle, 2).await;
    // Whatever is read of it, it has gone on before that is handed in.
    bench.provider.faults().refuse_terminations();
    handle.terminate("enough").await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Terminated);
}

#[tokio::test]
async fn instance_with_an_unreadable_history_can_be_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let runtime = Runtime::builder().registry(registry()).state(Door::default()).sqlite(&path).start().await.unwrap();
    let handle = listens::start(&runtime.client(), "unreadable").await.unwrap();
    until_events(&handle, 2).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute("UPDATE duroxide_events SET format = 999 WHERE id = 2", []).unwrap();
    handle.terminate("it cannot be read").await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Terminated);
    handle.delete().await.unwrap();
    let left = runtime.client().list(&Filter::default(), 10, None).await.unwrap();
    assert!(left.instances.is_empty());
    runtime.shutdown().await.unwrap();
}
