//! The node: one future that owns the live instances, the running activities and the lease of a runtime.
//!
//! # The loop
//!
//! Each round takes the events that have happened, changes the state, and starts the turns, activities and requests that
//! follow. The loop waits for none of them: their ends are events of a later round.
//!
//! ```text
//! clients: NodeHandle ── Command ──┐                         ┌─ turns ────────► Pool ───── Done ─────────┐
//! heartbeat ──────────── Command ──┤                         ├─ first steps ──► Pool ───── Done ─────────┤
//! live copies ──── Command::Stray ─┤     ┌──────────────┐    ├─ attempts ─────► tokio ──── AttemptEnded ─┤
//! runtime ───── Command::Shutdown ─┼───► │ one round of │ ───┼─ commits ──────► provider ─ Answer ───────┤
//! provider ─────────── WorkSignal ─┤     │     Node     │    ├─ work request ─► provider ─ Answer ───────┤
//! Time ──── Due, Recheck, .. ──────┤     └──────────────┘    └─ histories ────► provider ─ Answer ───────┤
//!                                  │                                                                     │
//!                                  └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! # The components
//!
//! Each component owns its fields, knows no provider, and returns the work that follows from a change. The methods of
//! [`Node`] carry it out: they start requests, make turns and commit.
//!
//! | component | state | returns |
//! | --- | --- | --- |
//! | [`LiveInstances`] | live copies, inboxes, timers, the queue of ready instances | [`FollowUp`](live::FollowUp) |
//! | [`Activities`] | runs and permits | the end of a run |
//! | [`LastFailures`] | the last failures of activities that are repeated | |
//! | [`Attempts`] | the futures of the runs | |
//! | [`TurnQueue`] | turns under way | |
//! | [`WorkRequests`] | the next request for work, and the one under way | [`Want`](crate::provider::Want) |
//! | [`LostAnswers`] | unconfirmed activities, instances to be rechecked | activities to release, instances to load |
//! | [`Endings`] | requests to terminate that are carried out from outside | |
//! | [`Balance`] | the use of live instances, and the number of other members | the instances to be released |
//! | [`Outbox`] | the commits of the round | |
//! | [`Membership`] | the lease | |
//! | [`Time`] | the timers of the loop | |
//! | [`ClockWatch`] | the last look at the clock | the step by which it was set |
//! | [`NodeMetrics`] | the handles of metrics | |
//!
//! # From the outcome of an activity to the next commit
//!
//! | | step | by |
//! | --- | --- | --- |
//! | 1 | The code returns. | `Attempt::run`, on the pool or tokio |
//! | 2 | The run ends; its permit moves into the outcome. | [`attempts`]: `attempt_ended` |
//! | 3 | The outcome enters the inbox of the live instance, which is ready now. | [`deliver`]: `deliver_outcome` |
//! | 4 | The inbox and the live copy become a turn. | [`turns`]: `start_turns`, `make_turn` |
//! | 5 | The replay engine delivers the outcome and polls the function. | `TurnJob::run`, on the pool |
//! | 6 | The decisions become rows. The permit is released, and new activities take theirs. | [`turns`]: `commit_turn`, and [`effect`](crate::effect) |
//! | 7 | All commits of the round are sent in one request. | [`commits`]: `send_commits` |
//! | 8 | After the answer, the live copy waits again, the activities start, messages are forwarded, and clients are answered. | [`commits`]: `turn_committed` |
//!
//! If the instance is not live in step 3, its outcome is committed as a message (`store_outcome`), which its owner
//! delivers.

mod acquire;
mod activities;
mod attempts;
mod balance;
mod clock_watch;
mod command;
mod commits;
mod deliver;
mod delivery;
mod ending;
mod endings;
mod handle;
mod heartbeat;
mod inbox;
mod last_failures;
mod live;
mod live_check;
mod loading;
mod log;
mod lost;
mod measure;
mod membership;
mod options;
mod outbox;
mod pool;
mod rejoin;
mod report;
mod running;
mod settle;
mod shutdown;
mod stop_signal;
mod time;
mod turn;
mod turn_queue;
mod turns;
mod work;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use handle::NodeHandle;
pub(crate) use live_check::{LiveCheck, check_live};
pub use options::RuntimeOptions;
pub(crate) use running::{Inline, NodeConfig, NodeStartError, RunningNode};

use self::activities::{Activities, AttemptDone, AttemptEnv, Attempts};
use self::balance::Balance;
use self::clock_watch::ClockWatch;
use self::command::Command;
use self::ending::Ended;
use self::endings::Endings;
use self::last_failures::LastFailures;
use self::live::LiveInstances;
use self::lost::{LostAnswers, RequestNumber};
use self::membership::Membership;
use self::outbox::{Answered, Outbox};
use self::pool::{Done, Pool};
use self::report::Load;
use self::time::Time;
use self::turn::Loaded;
use self::turn_queue::TurnQueue;
use self::work::{Served, WorkRequests};
use crate::clock::virtual_time::{ClockHold, Participant};
use crate::clock::{Clock, Timestamp};
use crate::id::{InstanceId, MessageId};
use crate::provider::{Acquired, InstanceRecord, Lease, NodeInfo, Provider};
use crate::registry::Lookup;
use crate::replay::Fault;
use crate::telemetry::NodeMetrics;

/// The parts that do not change while the node runs.
struct Shared {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    lookup: Arc<Lookup>,
    options: RuntimeOptions,
    tags: Option<Arc<[String]>>,
    info: NodeInfo,
    commands: mpsc::UnboundedSender<Command>,
    /// The load, for the reports of the node.
    load: Arc<Load>,
}

/// An event in the loop of the node.
enum NodeEvent {
    Done(Done),
    Commands(Vec<Command>),
    Answered(Answer),
    AttemptEnded(Result<Box<AttemptDone>, tokio::task::JoinError>),
    ThreadFree(u64),
    WorkSignal,
    Due,
    TurnTakesLong,
    CheckActivities,
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
    Ended(InstanceId, MessageId, Ended),
}

/// The node of a runtime; see the module.
///
/// The components own their state and return the work that follows; the methods of the node carry it out.
struct Node {
    shared: Arc<Shared>,
    membership: Membership,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The signal of the provider that there may be work.
    wake: watch::Receiver<u64>,
    /// Requests to the provider that are not answered yet.
    requests: FuturesUnordered<BoxFuture<'static, Answer>>,
    pool: Pool,
    time: Time,
    /// The start of the round. Read once per round, since reading the clock is slow on some machines.
    now: Timestamp,

    live: LiveInstances,
    turns: TurnQueue,
    activities: Activities,
    last_failures: LastFailures,
    attempts: Attempts,
    outbox: Outbox,
    work: WorkRequests,
    lost: LostAnswers,
    endings: Endings,
    balance: Balance,
    clock_watch: ClockWatch,
    metrics: NodeMetrics,
    draining: Option<Draining>,

    /// Stops a virtual clock, except while the node is idle.
    clock_hold: ClockHold,
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
        env: AttemptEnv,
        pool: Pool,
        membership: Membership,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let options = &shared.options;
        let limits = [options.max_activities, options.max_blocking_activities];
        let wake = shared.provider.wakeups().subscribe();
        Self {
            clock_hold: shared.clock.hold(),
            membership,
            commands,
            wake,
            requests: FuturesUnordered::new(),
            pool,
            time: Time::default(),
            now: shared.clock.now(),
            live: LiveInstances::default(),
            turns: TurnQueue::default(),
            activities: Activities::new(limits),
            last_failures: LastFailures::default(),
            attempts: Attempts::new(env),
            outbox: Outbox::default(),
            work: WorkRequests::new(Served::new(&shared.lookup, shared.tags.clone())),
            lost: LostAnswers::default(),
            endings: Endings::default(),
            balance: Balance::default(),
            clock_watch: ClockWatch::default(),
            metrics: NodeMetrics::new(&shared.info.id.to_string()),
            draining: None,
            shared,
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
            self.release_clock_if_idle();
            self.next(&mut happened).await;
            if !self.pool.wake_helper() {
                return;
            }
            self.freeze_clock();
            self.now = self.shared.clock.now();
            self.watch_clock();
            happened.drain(..).for_each(|happened| self.handle(happened));
        }
    }

    fn handle(&mut self, happened: NodeEvent) {
        match happened {
            NodeEvent::Done(Done::Turn(done)) => self.turn_done(done),
            NodeEvent::Done(Done::Attempt(done)) => {
                self.attempts.first_step_has_ended();
                self.attempt_ended(*done);
            }
            NodeEvent::Done(Done::Started(attempt)) => {
                self.attempts.first_step_has_ended();
                self.attempts.spawn(attempt);
            }
            NodeEvent::Commands(commands) => commands.into_iter().for_each(|command| self.on_command(command)),
            NodeEvent::Answered(answer) => self.answered(answer),
            // Panics of user code are caught within the attempt, and only a node that ends aborts its attempts.
            NodeEvent::AttemptEnded(done) => done.into_iter().for_each(|done| self.attempt_ended(*done)),
            NodeEvent::ThreadFree(run) => self.activities.thread_is_free(run),
            NodeEvent::WorkSignal => self.work.request(),
            NodeEvent::Due => self.fire_timers(),
            NodeEvent::TurnTakesLong => self.report_stuck_turns(),
            NodeEvent::CheckActivities => self.check_activities(),
            NodeEvent::Recheck => self.recheck_due(),
            NodeEvent::DrainDeadline => self.drain_deadline_passed(),
        }
    }

    /// Waits for an event, and takes the events of all sources: no source starves another. The order of the sources is fixed,
    /// so that a simulation is repeatable.
    async fn next(&mut self, happened: &mut Vec<NodeEvent>) {
        // A request may be for a history, of which a part is replayed by the pool.
        if (self.turns.under_way() > 0 || !self.requests.is_empty()) && !self.time.checks_turns() {
            self.time.check_turns(self.shared.options.turn_warning);
        }
        let Self { pool, commands, requests, attempts, wake, time, .. } = self;
        let mut woken = pin!(wake.changed());
        poll_fn(|context| {
            happened.extend(pool.take_done().into_iter().map(NodeEvent::Done));
            let mut received = Vec::new();
            if commands.poll_recv_many(context, &mut received, 1024).is_ready() {
                happened.push(NodeEvent::Commands(received));
            }
            while let Poll::Ready(Some(answer)) = requests.poll_next_unpin(context) {
                happened.push(NodeEvent::Answered(answer));
            }
            while let Poll::Ready(Some(done)) = attempts.poll_ended(context) {
                happened.push(NodeEvent::AttemptEnded(done.map(Box::new)));
            }
            while let Poll::Ready(Some(run)) = attempts.poll_free_thread(context) {
                happened.push(NodeEvent::ThreadFree(run));
            }
            // The sender lives in the provider, which this node holds.
            happened.extend(woken.as_mut().poll(context).is_ready().then_some(NodeEvent::WorkSignal));
            happened.extend(time.poll_due(context).then_some(NodeEvent::Due));
            happened.extend(time.poll_turn_check(context).then_some(NodeEvent::TurnTakesLong));
            happened.extend(time.poll_activity_check(context).then_some(NodeEvent::CheckActivities));
            happened.extend(time.poll_recheck(context).then_some(NodeEvent::Recheck));
            happened.extend(time.poll_drain_deadline(context).then_some(NodeEvent::DrainDeadline));
            if happened.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Deliver(instance, message, submitted, _hold) => self.forwarded(instance, message, &submitted),
            Command::Start(start) => self.start(start),
            Command::Create(new, submitted, _hold) => self.create(*new, submitted.number),
            Command::Watch(instance, watcher, _hold) => self.live.watch(&instance, watcher),
            Command::Recheck(instance) => self.recheck(instance),
            Command::Ended(instance) => self.instance_ended(instance),
            Command::Renewed(lease, renewed) => self.lease_was_renewed(lease, renewed),
            Command::Expired(lease) => self.lease_has_expired(lease),
            Command::Stray(instance, generation) => {
                let follow_up = self.live.strayed(&instance, generation);
                self.follow_up(follow_up);
            }
            Command::Shutdown(done) => self.begin_shutdown(done),
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Committed(lease, answered) => self.committed(lease, answered),
            Answer::Acquired(lease, sent, acquired) => self.acquired(lease, sent, acquired),
            Answer::History(instance, generation, loaded) => self.history_was_read(&instance, generation, loaded),
            Answer::Joined(lease) => self.rejoined(lease),
            Answer::Instance(instance, record, asked) => self.settle_read(instance, record.as_deref(), asked),
            Answer::Ended(instance, message, ended) => self.was_ended(instance, message, &ended),
        }
    }

    fn start_what_is_due(&mut self) {
        self.start_turns();
        self.send_commits();
        self.acquire_if_wanted();
        self.set_timer();
        self.time.check_activities(self.activities.next_check(self.shared.options.turn_warning));
        self.evict();
        self.membership.set_busy(self.is_busy());
        let (live, attempts) = (self.live.len(), self.activities.running());
        self.metrics.show(live, attempts);
        self.shared.load.show(live, attempts);
    }

    /// Lets a virtual clock move while the node is idle; see [`virtual_time`](crate::clock::virtual_time).
    fn release_clock_if_idle(&mut self) {
        let user_code = self.turns.under_way() > 0 || !self.attempts.is_idle();
        let idle = !user_code && self.requests.is_empty() && self.commands.is_empty();
        if idle && !self.clock_hold.is_none() {
            self.clock_hold = self.shared.clock.join(Participant::node(self.wake.clone()));
        }
    }

    fn freeze_clock(&mut self) {
        self.clock_hold = self.shared.clock.hold();
    }

    /// Moves the timers of this node if the clock was set since the last round.
    fn watch_clock(&mut self) {
        let Some(step) = self.clock_watch.look(&*self.shared.clock) else { return };
        let seconds = Duration::from_micros(step.unsigned_abs()).as_secs_f64();
        let node = &self.membership.lease.node;
        if step < 0 {
            tracing::warn!(%node, seconds, "the clock was set back; timers fire after the time that was left");
        } else {
            tracing::warn!(%node, seconds, "the clock was set ahead, or the machine was asleep; timers that are due fire");
        }
        self.live.clock_was_set(step);
        self.work.clock_was_set(step);
    }
    /// Starts a request to the provider. Its answer is an event of the loop.
    fn ask(&mut self, request: impl Future<Output = Answer> + Send + 'static) {
        self.requests.push(Box::pin(request));
    }

    /// Sets the timer to the earliest time at which an item becomes due: an owned instance by a timer of its own, or work
    /// at the provider, unless a request for work is sent anyway.
    fn set_timer(&mut self) {
        let due = self.work.next_due().into_iter().chain(self.live.next_timer()).min();
        self.time.set_due(&*self.shared.clock, due);
    }
}
