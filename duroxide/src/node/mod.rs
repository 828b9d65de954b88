//! The node: one future that owns the live copies, the running activities and the lease of this runtime.
//!
//! Each round of its loop takes the events that have happened ([`Command`]s from clients, answers of the provider, turns that
//! were made, ends of activities), changes the state, and starts the turns, activities and commits that follow. The loop
//! never waits for a single one of these.

mod acquire;
mod activities;
mod attempts;
mod command;
mod commits;
mod handle;
mod heartbeat;
mod live;
mod loading;
mod lost;
mod options;
mod pool;
mod running;
mod settle;
mod shutdown;
mod start;
mod stop_signal;
mod time;
mod turn;
mod turns;
mod work;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use handle::NodeHandle;
pub use options::RuntimeOptions;
pub(crate) use running::{Inline, NodeConfig, NodeStartError, RunningNode};
use stop_signal::StopSignal;

use self::activities::{Activities, AttemptDone, AttemptEnv, Attempts};
use self::command::Command;
use self::commits::{Answered, Outbound};
use self::heartbeat::Heartbeat;
use self::live::{LiveInstance, Timers};
use self::lost::{LostAnswers, RequestNumber};
use self::pool::{Done, Pool};
use self::time::Time;
use self::turn::{Loaded, TurnJob};
use self::work::{Served, WorkRequests};
use crate::activity::States;
use crate::clock::{Clock, Hold, Party, Timestamp};
use crate::error::ErrorCode;
use crate::id::InstanceId;
use crate::provider::{Acquired, InstanceRecord, Lease, NodeInfo, Provider, ProviderError, Renewal};
use crate::registry::Lookup;
use crate::replay::Fault;

/// The parts that do not change while the node runs.
struct Shared {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    lookup: Arc<Lookup>,
    options: RuntimeOptions,
    tags: Option<Arc<[String]>>,
    info: NodeInfo,
    commands: mpsc::UnboundedSender<Command>,
}

/// An event in the loop of the node.
enum NodeEvent {
    Done(Done),
    Commands(Vec<Command>),
    Answered(Answer),
    AttemptEnded(Result<AttemptDone, tokio::task::JoinError>),
    ThreadFree(u64),
    WorkSignal,
    Due,
    TurnTakesLong,
    Recheck,
    DrainDeadline,
}

/// An answer of the provider.
enum Answer {
    Committed(Lease, Answered),
    /// With the time of the request.
    Acquired(Lease, Timestamp, Acquired),
    History(InstanceId, u64, Result<Loaded, Fault>),
    Joined(Lease),
    Instance(InstanceId, Option<Box<InstanceRecord>>, RequestNumber),
}

/// The node of a runtime; see the module.
struct Node {
    shared: Arc<Shared>,
    lease: Lease,
    commands: mpsc::UnboundedReceiver<Command>,
    wake: watch::Receiver<u64>,
    /// The number of the last wake-up that was handled. A virtual clock compares it.
    woken: Arc<AtomicU64>,
    _party: Hold,
    handle: NodeHandle,
    heartbeat: Arc<Heartbeat>,
    pool: Pool,
    /// Questions to the provider that are not answered yet.
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,

    /// The instances that are live here.
    instances: HashMap<InstanceId, LiveInstance>,
    last_generation: u64,
    /// Slots that wait, by when they were used last: the first is dropped when there are too many.
    idle: BTreeMap<u64, InstanceId>,
    last_tick: u64,
    /// Slots that may be ready for a turn.
    ready: VecDeque<InstanceId>,
    jobs: Vec<TurnJob>,
    turns: usize,
    /// The number of histories that are being read.
    histories: usize,
    /// Commits that go out together at the end of the round.
    outgoing: Vec<Outbound>,

    activities: Activities,
    attempts: Attempts,

    work: WorkRequests,
    lost: LostAnswers,
    timers: Timers,
    time: Time,
    /// Stops a virtual clock during a round.
    hold: Hold,
    draining: Option<Draining>,
    /// A join that is under way, after the lease was lost.
    rejoining: bool,
}

/// A shutdown that is under way.
#[derive(Default)]
struct Draining {
    done: Vec<oneshot::Sender<()>>,
    deadline_has_passed: bool,
}

impl Node {
    fn new(
        shared: Arc<Shared>,
        states: States,
        pool: Pool,
        lease: Lease,
        commands: mpsc::UnboundedReceiver<Command>,
        handle: NodeHandle,
        heartbeat: Arc<Heartbeat>,
    ) -> Self {
        let options = &shared.options;
        let env = AttemptEnv::new(states, shared.clock.clone(), options);
        let limits = [options.max_activities, options.max_blocking_activities];
        let wake = shared.provider.wakeups().subscribe();
        let woken = Arc::new(AtomicU64::new(*wake.borrow()));
        let settled = {
            let (wake, woken) = (wake.clone(), woken.clone());
            Box::new(move || *wake.borrow() == woken.load(Ordering::Acquire))
        };
        Self {
            _party: shared.clock.join(Party { settled, waits: false }),
            woken,
            wake,
            pool,
            work: WorkRequests::new(Served::new(&shared)),
            activities: Activities::new(limits),
            attempts: Attempts::new(env),
            lost: LostAnswers::default(),
            time: Time::default(),
            timers: Timers::default(),
            hold: shared.clock.hold(),
            shared,
            lease,
            commands,
            handle,
            heartbeat,
            asked: FuturesUnordered::new(),
            instances: HashMap::new(),
            last_generation: 0,
            idle: BTreeMap::new(),
            last_tick: 0,
            ready: VecDeque::new(),
            jobs: Vec::new(),
            turns: 0,
            histories: 0,
            outgoing: Vec::new(),
            draining: None,
            rejoining: false,
        }
    }

    /// Runs until it is shut down.
    async fn run(mut self) {
        let mut happened = Vec::new();
        loop {
            // Within a task of tokio, let other tasks run. In a node that is always busy, timers and sockets of tokio would
            // never become ready.
            tokio::task::consume_budget().await;
            self.start_what_is_due();
            if self.is_drained() {
                return self.leave().await;
            }
            self.let_time_pass_if_idle();
            self.next(&mut happened).await;
            if !self.pool.wake_helper() {
                return;
            }
            self.hold_time();
            happened.drain(..).for_each(|happened| self.handle(happened));
        }
    }

    fn handle(&mut self, happened: NodeEvent) {
        match happened {
            NodeEvent::Done(Done::Turn(done)) => self.turn_done(*done),
            NodeEvent::Done(Done::Attempt(done)) => {
                self.attempts.first_step_was_taken(None);
                self.attempt_ended(*done);
            }
            NodeEvent::Done(Done::Started(attempt)) => self.attempts.first_step_was_taken(Some(attempt)),
            NodeEvent::Commands(commands) => commands.into_iter().for_each(|command| self.on_command(command)),
            NodeEvent::Answered(answer) => self.answered(answer),
            // Panics of user code are caught within the attempt, and only a node that ends aborts its attempts.
            NodeEvent::AttemptEnded(done) => done.into_iter().for_each(|done| self.attempt_ended(done)),
            NodeEvent::ThreadFree(run) => self.activities.thread_is_free(run),
            NodeEvent::WorkSignal => {
                self.woken.store(*self.wake.borrow(), Ordering::Release);
                self.work.request();
            }
            NodeEvent::Due => self.fire_timers(),
            NodeEvent::TurnTakesLong => self.report_stuck_turns(),
            NodeEvent::Recheck => self.recheck_due(),
            NodeEvent::DrainDeadline => self.drain_deadline_passed(),
        }
    }

    /// Waits for an event, and takes the events of all sources: no source starves another. The order of the sources is fixed,
    /// so that a simulation is repeatable.
    async fn next(&mut self, happened: &mut Vec<NodeEvent>) {
        // A request may be for a history, of which a part is replayed by the pool.
        if (self.turns > 0 || !self.asked.is_empty()) && !self.time.checks_turns() {
            self.time.check_turns(self.shared.options.turn_warning);
        }
        let Self { pool, commands, asked, attempts, wake, time, .. } = self;
        let mut woken = pin!(wake.changed());
        poll_fn(|context| {
            happened.extend(pool.take_done().into_iter().map(NodeEvent::Done));
            let mut told = Vec::new();
            if commands.poll_recv_many(context, &mut told, 1024).is_ready() {
                happened.push(NodeEvent::Commands(told));
            }
            while let Poll::Ready(Some(answer)) = asked.poll_next_unpin(context) {
                happened.push(NodeEvent::Answered(answer));
            }
            while let Poll::Ready(Some(done)) = attempts.poll_ended(context) {
                happened.push(NodeEvent::AttemptEnded(done));
            }
            while let Poll::Ready(Some(run)) = attempts.poll_free_thread(context) {
                happened.push(NodeEvent::ThreadFree(run));
            }
            // The sender lives in the provider, which this node holds.
            happened.extend(woken.as_mut().poll(context).is_ready().then_some(NodeEvent::WorkSignal));
            happened.extend(time.poll_due(context).then_some(NodeEvent::Due));
            happened.extend(time.poll_turn_check(context).then_some(NodeEvent::TurnTakesLong));
            happened.extend(time.poll_recheck(context).then_some(NodeEvent::Recheck));
            happened.extend(time.poll_drain_deadline(context).then_some(NodeEvent::DrainDeadline));
            if happened.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Deliver(instance, message, submitted, _hold) => self.forwarded(instance, message, &submitted),
            Command::Start(eager_start) => self.start(eager_start),
            Command::Create(new, submitted, _hold) => self.create(*new, submitted.number),
            Command::Watch(instance, watcher, _hold) => {
                // If the instance is not live, the drop of the watcher notifies it.
                if let Some(live) = self.instances.get_mut(&instance) {
                    live.watch(watcher);
                }
            }
            Command::Recheck(instance) => self.recheck(instance),
            Command::Ended(instance) => self.ended(instance),
            Command::Renewed(lease, renewed) => self.renewed(lease, renewed),
            Command::Expired(lease) if lease == self.lease => {
                self.lease_lost("the lease has expired, since it could not be renewed in time");
            }
            Command::Expired(_) => {}
            Command::Stray(instance, generation) => self.strayed(&instance, generation),
            Command::Shutdown(done) => self.begin_shutdown(done),
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Committed(lease, answered) => self.committed(lease, answered),
            Answer::Acquired(lease, sent, acquired) => self.acquired(lease, sent, acquired),
            Answer::History(instance, generation, loaded) => self.loaded(&instance, generation, loaded),
            Answer::Joined(lease) => self.rejoined(lease),
            Answer::Instance(instance, record, asked) => self.settle_read(instance, record.as_deref(), asked),
        }
    }

    fn start_what_is_due(&mut self) {
        self.start_turns();
        self.send_commits();
        self.acquire_if_wanted();
        self.set_timer();
        self.evict();
    }

    /// Lets a virtual clock move while the node is idle.
    fn let_time_pass_if_idle(&mut self) {
        let user_code = self.turns > 0 || !self.attempts.is_idle();
        if !user_code && self.asked.is_empty() && self.commands.is_empty() {
            self.hold = Hold::none();
        }
    }

    fn hold_time(&mut self) {
        if self.hold.is_none() {
            self.hold = self.shared.clock.hold();
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn ask(&mut self, question: impl Future<Output = Answer> + Send + 'static) {
        self.asked.push(Box::pin(question));
    }

    fn next_generation(&mut self) -> u64 {
        self.last_generation += 1;
        self.last_generation
    }

    /// Sets the timer to the earliest time at which an item becomes due: an owned instance by a timer of its own, or work
    /// at the provider, unless a request for work is sent anyway.
    fn set_timer(&mut self) {
        let due = self.work.next_due().into_iter().chain(self.timers.next()).min();
        self.time.set_due(&*self.shared.clock, due);
    }

    fn renewed(&mut self, lease: Lease, renewed: Result<Renewal, ProviderError>) {
        if lease != self.lease {
            return;
        }
        match renewed {
            Ok(Renewal::Held { .. }) => {}
            Ok(Renewal::Lost) => self.lease_lost("another node has taken over"),
            // Not a loss: the node owns its items until another node takes over, and then its commits are refused.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed; retrying"),
        }
    }

    /// Drops the live copies and cancels the activities of a lease that is lost or has expired, and joins again.
    fn lease_lost(&mut self, reason: &str) {
        if self.rejoining || self.draining.is_some() {
            return;
        }
        tracing::warn!(
            node = %self.lease.node,
            code = %ErrorCode::LeaseLost,
            reason,
            "the node has lost its lease and joins again"
        );
        self.rejoining = true;
        self.instances.clear();
        self.idle.clear();
        self.ready.clear();
        self.activities.cancel_all();
        let shared = self.shared.clone();
        self.ask(async move {
            let mut backoff = crate::backoff::Backoff::default();
            loop {
                match shared.provider.join(&shared.info).await {
                    Ok(lease) => return Answer::Joined(lease),
                    Err(error) => tracing::warn!(%error, "joining again failed; retrying"),
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    fn rejoined(&mut self, lease: Lease) {
        self.lease = lease;
        self.rejoining = false;
        self.handle.set_lease(lease);
        self.heartbeat.renew_as(lease);
        self.work.restart();
        self.histories = 0;
        self.lost.clear();
        self.time.stop_recheck();
        self.timers = Timers::default();
    }
}
