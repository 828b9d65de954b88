//! A provider that fails, hangs or loses answers only delays: no loss, no repetition, no hot loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::history::{Decision, EventKind, HistoryEvent};
use duroxide::prelude::*;
use duroxide::provider::{IfExists, MemoryProvider};
use duroxide::testing::VirtualClock;
use duroxide::{Client, Registry, RuntimeBuilder, RuntimeOptions};
use futures_util::FutureExt;
use support::{Fault, Faults, FaultyProvider, Method, faulty};
use tokio::sync::watch;

/// Counts the runs of activities by key, and holds waiting activities until the test opens it.
#[derive(Clone, Default)]
pub(crate) struct Work {
    done: Arc<watch::Sender<BTreeMap<String, u32>>>,
    begun: Arc<watch::Sender<u32>>,
    open: Arc<watch::Sender<bool>>,
}

impl Work {
    pub(crate) fn count(&self, key: impl Into<String>) {
        self.done.send_modify(|done| *done.entry(key.into()).or_default() += 1);
    }

    pub(crate) fn done(&self) -> BTreeMap<String, u32> {
        self.done.borrow().clone()
    }

    /// Waits until an activity has run.
    pub(crate) async fn until_done(&self) {
        self.done.subscribe().wait_for(|done| !done.is_empty()).await.unwrap();
    }

    async fn until_begun(&self, times: u32) {
        self.begun.subscribe().wait_for(|begun| *begun >= times).await.unwrap();
    }

    async fn until_open(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    fn open(&self) {
        self.open.send_replace(true);
    }
}

/// An external effect, counted under its idempotency key.
#[activity]
async fn charge(ctx: ActivityContext, State(work): State<Work>, n: u64) -> duroxide::Result<u64> {
    work.count(ctx.idempotency_key());
    Ok(n + 1)
}

#[activity]
async fn waits_until_open(State(work): State<Work>) -> duroxide::Result<()> {
    work.begun.send_modify(|n| *n += 1);
    work.until_open().await;
    Ok(())
}

#[activity]
fn blocks_until_open(State(work): State<Work>) -> duroxide::Result<()> {
    work.begun.send_modify(|n| *n += 1);
    futures_executor::block_on(work.until_open());
    Ok(())
}

#[activity(retry(max_attempts = 5, initial_interval = "1s"))]
async fn succeeds_third(ctx: ActivityContext) -> duroxide::Result<u32> {
    if ctx.attempt() < 3 { Err(duroxide::Error::new("not yet")) } else { Ok(ctx.attempt()) }
}

#[event(name = "faults-go")]
struct Go {
    n: u64,
}

#[orchestration]
async fn part(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    ctx.sleep(minutes(1)).await;
    Ok(charge::call(&ctx, n).await?)
}

/// Uses activities, retries, events, timers, children and detached starts, in several executions.
#[orchestration]
async fn tour(ctx: OrchestrationContext, left: u32, sum: u64) -> duroxide::Result<u64> {
    let own = charge::call(&ctx, sum).await?;
    let (child, event) = join!(part::call(&ctx, own), ctx.event::<Go>());
    succeeds_third::call(&ctx).await?;
    part::call(&ctx, own).id(format!("detached-{left}")).detached().await?;
    let mut sum = child? + event.n;
    for result in join_all((0..3).map(|i| charge::call(&ctx, i))).await {
        sum += result?;
    }
    if left == 0 { Ok(sum) } else { tour::continue_as_new(&ctx, left - 1, sum).await }
}

const ROUNDS: u32 = 2;

fn expected() -> u64 {
    (0..=ROUNDS).fold(0, |sum, round| sum + 2 + u64::from(round) * 100 + 6)
}

struct Bench {
    runtime: Runtime,
    work: Work,
    memory: MemoryProvider,
    faults: Faults,
    provider: FaultyProvider,
    clock: VirtualClock,
}

fn builder(provider: &FaultyProvider, clock: &VirtualClock, work: &Work) -> RuntimeBuilder {
    let registry = Registry::empty()
        .with_activity::<charge>()
        .with_activity::<waits_until_open>()
        .with_blocking_activity::<blocks_until_open>()
        .with_activity::<succeeds_third>()
        .with_orchestration::<part>()
        .with_orchestration::<tour>()
        .with_orchestration::<calls_waiting_activity>()
        .with_orchestration::<calls_blocking_activity>();
    Runtime::builder().registry(registry).provider(provider.clone()).clock(clock.clone()).state(work.clone())
}

/// Options with a heartbeat every 5 ms, so that tests do not wait for it.
fn quick() -> RuntimeOptions {
    let mut options = RuntimeOptions::default();
    options.lease_time = Duration::from_millis(15);
    options
}

impl Bench {
    async fn new() -> Self {
        Self::with(quick()).await
    }

    async fn with(options: RuntimeOptions) -> Self {
        let (memory, clock, work) = (MemoryProvider::new(), VirtualClock::new(), Work::default());
        let provider = faulty(memory.clone());
        let runtime = builder(&provider, &clock, &work).options(options).start().await.unwrap();
        Self { runtime, work, memory, faults: provider.faults().clone(), provider, clock }
    }

    async fn another(&self) -> Runtime {
        builder(&self.provider, &self.clock, &self.work).options(quick()).start().await.unwrap()
    }

    /// Returns the histories of the tour, read without faults.
    async fn histories(&self) -> Vec<Vec<HistoryEvent>> {
        self.histories_by(&self.runtime.client()).await
    }

    /// Returns the histories of the tour. `client` waits for the detached instances.
    async fn histories_by(&self, client: &Client) -> Vec<Vec<HistoryEvent>> {
        let reader = Client::new(self.memory.clone());
        let mut histories = Vec::new();
        for n in 0..=ROUNDS {
            let id = format!("detached-{n}");
            part::handle(client, &id).wait().await.unwrap();
            histories.push(part::handle(&reader, &id).history().await.unwrap());
            histories.push(tour::handle(&reader, "tour").history_of(u64::from(n) + 1).await.unwrap());
        }
        histories
    }

    /// Runs the tour, checks that each effect happened once, and returns the histories.
    async fn tour(&self) -> Vec<Vec<HistoryEvent>> {
        let handle = tour::start(&self.runtime.client(), "tour", ROUNDS, 0).await.unwrap();
        for n in 0..=ROUNDS {
            handle.raise(Go { n: u64::from(n) * 100 }).await.unwrap();
        }
        assert_eq!(handle.result().await.unwrap(), expected());
        let histories = self.histories().await;
        let done = self.work.done();
        assert_eq!(done.len(), 6 * (ROUNDS as usize + 1), "{done:?}");
        assert!(done.values().all(|times| *times == 1), "done twice: {done:?}");
        histories
    }
}

/// Returns the lengths of histories. Awaited events do not count: a wait is recorded only if its event was not there yet.
fn shapes(histories: &[Vec<HistoryEvent>]) -> Vec<usize> {
    let waited = |event: &HistoryEvent| matches!(event.kind, EventKind::Decision(Decision::EventAwaited { .. }));
    histories.iter().map(|history| history.iter().filter(|event| !waited(event)).count()).collect()
}

#[tokio::test(start_paused = true)]
async fn lost_answers_duplicate_nothing() {
    let expected = shapes(&Bench::new().await.tour().await);
    for method in [Method::Commit, Method::Submit, Method::Renew, Method::History, Method::Instance] {
        let bench = Bench::new().await;
        for _ in 0..200 {
            bench.faults.next(method, Fault::AnswerLost, 1);
            bench.faults.pass(method, 1);
        }
        assert_eq!(shapes(&bench.tour().await), expected, "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lost_claim_answer_loses_no_work() {
    for lost in [1, 2, 7] {
        let bench = Bench::new().await;
        // A client without a node, so that the node has to claim everything.
        let client = Client::new(bench.provider.clone());
        bench.faults.next(Method::Acquire, Fault::AnswerLost, lost);
        let handles = [("a", 1), ("b", 2), ("c", 3)].map(|(id, n)| (client.start("part", id, &n), n));
        for (start, n) in handles {
            let handle = start.await.unwrap();
            assert_eq!(bench.runtime.client().handle(handle.id().unwrap()).result().await.unwrap(), n + 1);
        }
        let done = bench.work.done();
        assert!(done.len() == 3 && done.values().all(|times| *times == 1), "done twice: {done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lost_claim_answer_loses_no_retry() {
    let bench = Bench::new().await;
    // Every second answer is lost, and with it claims of unowned attempts.
    for _ in 0..200 {
        bench.faults.next(Method::Acquire, Fault::AnswerLost, 1);
        bench.faults.pass(Method::Acquire, 1);
    }
    bench.tour().await;
}

#[tokio::test(start_paused = true)]
async fn hours_of_provider_errors_only_delay() {
    let expected = shapes(&Bench::new().await.tour().await);
    for method in [Method::Renew, Method::Acquire, Method::Commit, Method::History] {
        for fault in [Fault::Before, Fault::Permanent] {
            let mut options = quick();
            // Without a cache every turn reads its history.
            options.max_idle_instances = if method == Method::History { 0 } else { 100 };
            let bench = Bench::with(options).await;
            let begin = tokio::time::Instant::now();
            // After the first seconds of an outage, a call is retried every 2.5 to 5 s.
            bench.faults.next(method, fault, 3_000);
            assert_eq!(shapes(&bench.tour().await), expected, "{method:?}");
            // The first page of a history comes with the instance; only further ones are read.
            if !matches!(method, Method::Renew | Method::History) {
                let least = Duration::from_secs(2 * 3_000);
                assert!(begin.elapsed() > least, "{method:?} was retried in a hot loop: {:?}", begin.elapsed());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_failed_joins_only_delay() {
    for fault in [Fault::Before, Fault::Permanent] {
        let bench = Bench::new().await;
        let handle = calls_waiting_activity::start(&bench.runtime.client(), "waiting").await.unwrap();
        bench.work.until_begun(1).await;
        bench.faults.next(Method::Join, fault, 3_000);
        let begin = tokio::time::Instant::now();
        lose_the_lease(&bench).await;
        bench.work.open();
        assert_eq!(handle.result().await.unwrap(), 2);
        assert!(begin.elapsed() > Duration::from_secs(2 * 3_000), "retried in a hot loop: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn no_effect_precedes_its_commit() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    bench.faults.hold(Method::Commit);
    // With `Attach`, the start is stored before its first turn.
    let handle = tour::start(&client, "held", 0, 0).if_exists(IfExists::Attach).await.unwrap();
    bench.faults.until_begun(Method::Commit, 1).await;
    // Time in which a node that did not wait for the commit would run the activity.
    bench.faults.until_more(Method::Renew, 3).await;
    assert!(bench.work.done().is_empty(), "an activity ran before its schedule was committed");
    assert_eq!(handle.status().await.unwrap().events.0, 0);
    bench.faults.release(Method::Commit);
    handle.raise(Go { n: 1 }).await.unwrap();
    handle.result().await.unwrap();
    // A start is not confirmed to its client before it is stored.
    for method in [Method::Commit, Method::Submit] {
        bench.faults.hold(method);
    }
    let mut start = Box::pin(part::start(&client, "reported", 1).into_future());
    assert!((&mut start).now_or_never().is_none());
    bench.faults.until_more(Method::Renew, 3).await;
    assert!((&mut start).now_or_never().is_none());
    for method in [Method::Commit, Method::Submit] {
        bench.faults.release(method);
    }
    assert_eq!(start.await.unwrap().result().await.unwrap(), 2);
}

/// Runs a tour whose node dies at the n-th call of a method, which gets `fault`, and continues it on another node. Returns
/// true if the tour ended before that call.
async fn tour_with_death(method: Method, fault: Fault, calls: usize, expected: &[usize]) -> bool {
    let mut bench = Bench::new().await;
    let faults = bench.faults.clone();
    let met = faults.nth(method, calls, fault);
    let client = Client::new(bench.memory.clone());
    // With `Attach`, the start is stored before its first turn, and survives the failure of that turn.
    let start = tour::start(&bench.runtime.client(), "tour", ROUNDS, 0).if_exists(IfExists::Attach);
    let handle = start.await.unwrap();
    for n in 0..=ROUNDS {
        tour::handle(&client, "tour").raise(Go { n: u64::from(n) * 100 }).await.unwrap();
    }
    let over = tokio::select! {
        biased;
        () = met => false,
        result = handle.result() => result.unwrap() == self::expected(),
    };
    if over {
        return true;
    }
    let epoch = client.nodes().await.unwrap()[0].epoch;
    bench.memory.kill(epoch);
    bench.faults.heal();
    bench.runtime = bench.another().await;
    let client = bench.runtime.client();
    assert_eq!(tour::handle(&client, "tour").result().await.unwrap(), self::expected());
    let histories = bench.histories_by(&client).await;
    assert_eq!(shapes(&histories), expected, "{method:?}, call {calls}, {fault:?}");
    for history in histories {
        let outcomes = history.iter().filter_map(|event| match &event.kind {
            EventKind::Input(input) => input.call(),
            EventKind::Decision(_) => None,
        });
        let mut outcomes: Vec<_> = outcomes.collect();
        outcomes.sort_unstable();
        assert!(
            outcomes.windows(2).all(|pair| pair[0] != pair[1]),
            "{method:?}, call {calls}: an outcome was recorded twice"
        );
    }
    assert_eq!(bench.work.done().len(), 6 * (ROUNDS as usize + 1), "an effect is missing");
    false
}

#[tokio::test(start_paused = true)]
async fn node_death_around_any_call_changes_nothing() {
    let expected = shapes(&Bench::new().await.tour().await);
    for method in [Method::Commit, Method::Acquire] {
        for fault in [Fault::Hangs, Fault::AnswerHangs] {
            let mut calls = 1;
            while !tour_with_death(method, fault, calls, &expected).await {
                calls += 1;
            }
            assert!(calls > 5, "{method:?}: only {calls} calls");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failed_entry_is_retried_and_its_neighbours_are_committed() {
    let bench = Bench::new().await;
    for _ in 0..50 {
        bench.faults.next(Method::Commit, Fault::FirstEntry, 3);
        bench.faults.pass(Method::Commit, 1);
    }
    bench.tour().await;
}

#[tokio::test]
async fn refused_turn_is_repeated_with_all_its_messages() {
    let expected = shapes(&Bench::new().await.tour().await);
    for refused in [1, 2, 5] {
        // One permit for activities: a refused turn must release it.
        let mut options = quick();
        options.max_activities = 1;
        let bench = Bench::with(options).await;
        for _ in 0..50 {
            bench.faults.pass(Method::Commit, 1);
            bench.faults.next(Method::Commit, Fault::TurnsRefused, refused);
        }
        let tour = tokio::time::timeout(Duration::from_secs(60), bench.tour()).await;
        assert_eq!(shapes(&tour.expect("the tour is stuck")), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn client_retries_provider_errors() {
    let bench = Bench::new().await;
    for method in [Method::Submit, Method::Instance, Method::History, Method::List] {
        bench.faults.next(method, Fault::Before, 5);
    }
    bench.tour().await;
    let client = bench.runtime.client();
    assert_eq!(client.list(&duroxide::Filter::default(), 100).await.unwrap().instances.len(), 1 + 3 + 3);
    bench.faults.next(Method::Instance, Fault::Before, 5);
    let attached = tour::start(&client, "tour", ROUNDS, 0).if_exists(IfExists::Attach).await.unwrap();
    assert_eq!(attached.result().await.unwrap(), expected());
}

#[tokio::test(start_paused = true)]
async fn client_reports_long_and_permanent_provider_errors() {
    let bench = Bench::new().await;
    let client = bench.runtime.client();
    for fault in [Fault::Before, Fault::Permanent] {
        for method in [Method::Commit, Method::Submit, Method::Instance] {
            bench.faults.always(method, fault);
        }
        let before = bench.faults.begun(Method::Submit);
        let error = client.start("part", "reported", &1).await.unwrap_err();
        assert_eq!(error.code(), duroxide::ErrorCode::StorageFailed, "{error}");
        assert!(error.to_string().contains("injected"), "the error names its cause: {error}");
        assert!(error.to_string().contains("make the call"), "the error names the operation: {error}");
        assert_eq!(error.is_retryable(), fault == Fault::Before);
        let calls = bench.faults.begun(Method::Submit) - before;
        assert!(if fault == Fault::Permanent { calls == 1 } else { (5..100).contains(&calls) }, "{calls} calls");
        assert!(client.handle("reported").status().await.unwrap_err().is_retryable() == (fault == Fault::Before));
        bench.faults.heal();
    }
    // The failed starts have stored nothing, and the id is free.
    assert!(client.handle("reported").status().await.unwrap_err().is_not_found());
    assert_eq!(client.start("part", "reported", &1).await.unwrap().result().await.unwrap(), 2);
}

#[orchestration]
async fn calls_waiting_activity(ctx: OrchestrationContext) -> duroxide::Result<u64> {
    waits_until_open::call(&ctx).await?;
    Ok(charge::call(&ctx, 1).await?)
}

#[orchestration]
async fn calls_blocking_activity(ctx: OrchestrationContext) -> duroxide::Result<u64> {
    blocks_until_open::call(&ctx).await?;
    Ok(charge::call(&ctx, 1).await?)
}

#[tokio::test]
async fn failed_renewals_do_not_lose_the_lease() {
    let bench = Bench::new().await;
    let handle = calls_waiting_activity::start(&bench.runtime.client(), "waiting").await.unwrap();
    bench.work.until_begun(1).await;
    bench.faults.next(Method::Renew, Fault::Before, 2);
    bench.faults.next(Method::Renew, Fault::AnswerLost, 2);
    bench.faults.next(Method::Renew, Fault::Permanent, 2);
    bench.faults.until_more(Method::Renew, 8).await;
    bench.work.open();
    assert_eq!(handle.result().await.unwrap(), 2);
    assert_eq!(*bench.work.begun.borrow(), 1, "the activity was run once");
    assert_eq!(bench.faults.begun(Method::Join), 1, "the node kept its lease");
}

/// Expires the lease of the runtime's node, and waits until the node has joined again.
async fn lose_the_lease(bench: &Bench) {
    let joined = bench.faults.begun(Method::Join);
    let epoch = bench.runtime.client().nodes().await.unwrap()[0].epoch;
    bench.memory.kill(epoch);
    bench.faults.until_begun(Method::Join, joined + 1).await;
}

#[tokio::test]
async fn node_with_a_lost_lease_rejoins_and_continues() {
    for round in 0..30 {
        let bench = Bench::new().await;
        let client = bench.runtime.client();
        let waiting = calls_waiting_activity::start(&client, "waiting").await.unwrap();
        let tour = tour::start(&client, "tour", ROUNDS, 0).await.unwrap();
        bench.work.until_begun(1).await;
        lose_the_lease(&bench).await;
        bench.work.until_begun(2).await;
        bench.work.open();
        assert_eq!(waiting.result().await.unwrap(), 2, "round {round}");
        for n in 0..=ROUNDS {
            tour.raise(Go { n: u64::from(n) * 100 }).await.unwrap();
        }
        assert_eq!(tour.result().await.unwrap(), expected(), "round {round}");
        // New instances are owned under the new lease.
        assert_eq!(client.start("part", "new", &1).await.unwrap().result().await.unwrap(), 2);
        bench.runtime.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn lease_is_lost_when_renewals_hang_for_longer() {
    let bench = Bench::new().await;
    let handle = calls_waiting_activity::start(&bench.runtime.client(), "waiting").await.unwrap();
    bench.work.until_begun(1).await;
    bench.faults.limit_leases(quick().lease_time);
    bench.faults.until_more(Method::Renew, 2).await;
    bench.faults.always(Method::Renew, Fault::Hangs);
    bench.faults.until_begun(Method::Join, 2).await;
    bench.faults.heal();
    bench.work.until_begun(2).await;
    bench.work.open();
    assert_eq!(handle.result().await.unwrap(), 2);
    assert!(bench.work.done().values().all(|times| *times == 1), "what follows the activity is done once");
}

#[tokio::test]
async fn lost_lease_is_logged_with_its_code() {
    let log = crate::logging::log();
    let bench = Bench::new().await;
    let node = bench.runtime.client().nodes().await.unwrap()[0].info.id;
    lose_the_lease(&bench).await;
    let lines = log.with(&format!("node={node}"));
    assert!(lines.iter().any(|line| line.text.contains("code=DUR0102")), "{lines:?}");
}

#[tokio::test]
async fn lost_lease_releases_activity_permits() {
    let mut options = quick();
    options.max_activities = 1;
    let bench = Bench::with(options).await;
    // The turn that schedules the activity is stored; its answer arrives after the loss of the lease.
    let stored = bench.faults.nth(Method::Commit, 1, Fault::AnswerWaits);
    let start = tokio::spawn(calls_waiting_activity::start(&bench.runtime.client(), "waiting").into_future());
    stored.await;
    lose_the_lease(&bench).await;
    bench.work.open();
    bench.faults.release_answers(Method::Commit);
    let handle = start.await.unwrap().unwrap();
    let result = tokio::time::timeout(Duration::from_secs(20), handle.result()).await;
    assert_eq!(result.expect("there is no permit for its activity").unwrap(), 2);
}

#[tokio::test]
async fn rejoined_node_can_claim_an_activity_it_still_runs() {
    for _ in 0..10 {
        let bench = Bench::new().await;
        let handle = calls_blocking_activity::start(&bench.runtime.client(), "blocking").await.unwrap();
        bench.work.until_begun(1).await;
        let asked = bench.faults.begun(Method::Acquire);
        lose_the_lease(&bench).await;
        // After the join, the node claims the activity again while its first run still blocks.
        bench.faults.until_begun(Method::Acquire, asked + 1).await;
        bench.work.until_begun(2).await;
        bench.work.open();
        assert_eq!(handle.result().await.unwrap(), 2);
    }
}

#[tokio::test]
async fn failed_join_is_retried() {
    let bench = Bench::new().await;
    let handle = calls_waiting_activity::start(&bench.runtime.client(), "waiting").await.unwrap();
    bench.work.until_begun(1).await;
    bench.faults.next(Method::Join, Fault::Before, 2);
    bench.faults.next(Method::Join, Fault::AnswerLost, 2);
    lose_the_lease(&bench).await;
    bench.work.open();
    assert_eq!(handle.result().await.unwrap(), 2);
    assert_eq!(bench.runtime.client().nodes().await.unwrap().len(), 1, "earlier memberships are still listed");
}

#[tokio::test]
async fn two_nodes_racing_for_an_instance_write_one_history() {
    let expected = shapes(&Bench::new().await.tour().await);
    for held in 1..20 {
        let bench = Bench::new().await;
        let handle = tour::start(&bench.runtime.client(), "tour", ROUNDS, 0).await.unwrap();
        for n in 0..=ROUNDS {
            handle.raise(Go { n: u64::from(n) * 100 }).await.unwrap();
        }
        // A commit of the first node is delayed until its lease has expired, and another node has claimed the instance.
        let on_its_way = bench.faults.nth(Method::Commit, held, Fault::Waits);
        let result = tokio::spawn(async move { handle.result().await });
        on_its_way.await;
        let epoch = bench.runtime.client().nodes().await.unwrap()[0].epoch;
        bench.memory.kill(epoch);
        let other = bench.another().await;
        bench.faults.release(Method::Commit);
        assert_eq!(result.await.unwrap().unwrap(), self::expected());
        assert_eq!(shapes(&bench.histories().await), expected, "held behind {held} commits");
        other.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn shutdown_ends_while_the_provider_hangs_or_fails() {
    let methods = [Method::Commit, Method::Acquire, Method::Leave];
    let ends = methods
        .into_iter()
        .flat_map(|method| [shutdown_ends_although(method, true), shutdown_ends_although(method, false)]);
    futures_util::future::join_all(ends).await;
}

/// Shuts down while one method of the provider hangs or fails.
async fn shutdown_ends_although(method: Method, hangs: bool) {
    let mut options = quick();
    options.drain = Duration::from_millis(20);
    let bench = Bench::with(options).await;
    if hangs {
        bench.faults.hold(method)
    } else {
        bench.faults.always(method, Fault::Before)
    }
    let client = bench.runtime.client();
    let _handle = client.start("part", "part", &1).if_exists(IfExists::Attach).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), bench.runtime.shutdown()).await;
    ended.unwrap_or_else(|_| panic!("{method:?} blocks the shutdown")).unwrap();
    bench.faults.heal();
    // The next node claims the remaining work.
    for node in Client::new(bench.memory.clone()).nodes().await.unwrap() {
        bench.memory.kill(node.epoch);
    }
    let next = builder(&bench.provider, &bench.clock, &bench.work).start().await.unwrap();
    assert_eq!(next.client().handle("part").result().await.unwrap(), 2);
}

#[tokio::test]
async fn draining_node_does_not_claim_in_a_loop() {
    let bench = Bench::new().await;
    let waiting = calls_waiting_activity::start(&bench.runtime.client(), "waiting").await.unwrap();
    bench.work.until_begun(1).await;
    let shutdown = tokio::spawn(bench.runtime.shutdown());
    // The task begins the shutdown in its first step.
    tokio::task::yield_now().await;
    bench.faults.until_more(Method::Renew, 1).await;
    // The node drains now. The new instance comes from a node without code, which cannot run it.
    let starter = builder(&bench.provider, &bench.clock, &bench.work).registry(Registry::empty());
    let starter = starter.start().await.unwrap();
    let client = starter.client();
    let before = bench.faults.begun(Method::Acquire);
    let new = client.start("part", "new", &1).await.unwrap();
    for _ in 0..10 {
        bench.faults.until_more(Method::Renew, 1).await;
    }
    let asked = bench.faults.begun(Method::Acquire) - before;
    assert!(asked < 20, "{asked} requests for work while draining");
    bench.work.open();
    shutdown.await.unwrap().unwrap();
    let next = builder(&bench.provider, &bench.clock, &bench.work).start().await.unwrap();
    assert_eq!(next.client().handle(new.id().unwrap()).result().await.unwrap(), 2);
    assert_eq!(calls_waiting_activity::handle(&next.client(), waiting.id().unwrap()).result().await.unwrap(), 2);
}

#[orchestration]
async fn sleeps_briefly(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(Duration::from_millis(20)).await;
    Ok(())
}

#[orchestration]
async fn charges(ctx: OrchestrationContext) -> duroxide::Result<u64> {
    Ok(charge::call(&ctx, 1).await?)
}

/// Uses the system clock, which advances while the provider hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timer_due_during_a_hanging_claim_stops_no_other_instance() {
    let registry = Registry::empty()
        .with_activity::<charge>()
        .with_orchestration::<charges>()
        .with_orchestration::<sleeps_briefly>();
    let provider = faulty(MemoryProvider::new());
    let faults = provider.faults().clone();
    let builder = Runtime::builder().registry(registry).provider(provider).state(Work::default());
    let runtime = builder.start().await.unwrap();
    let client = runtime.client();
    faults.hold(Method::Acquire);
    let dozing = sleeps_briefly::start(&client, "dozing").await.unwrap();
    let begun = Instant::now();
    for n in 0.. {
        let handle = charges::start(&client, format!("awake-{n}")).await.unwrap();
        let result = tokio::time::timeout(Duration::from_secs(10), handle.result()).await;
        assert_eq!(result.expect("the node is stuck").unwrap(), 2);
        if begun.elapsed() > Duration::from_millis(100) {
            break;
        }
    }
    faults.release(Method::Acquire);
    dozing.result().await.unwrap();
    runtime.shutdown().await.unwrap();
}
