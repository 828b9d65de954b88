//! The node: one future that owns the live copies, the running activities and the lease of this runtime.
//!
//! Each round of its loop takes the events that have happened ([`Note`]s from clients, answers of the provider, turns that
//! were made, ends of activities), changes the state, and starts the turns, activities and commits that follow. The loop
//! never waits for a single one of these.

mod acquiring;
mod attempts;
mod birth;
mod commits;
mod doubts;
mod handle;
mod loading;
mod shutdown;
mod timers;
mod turns;
mod uncertain;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub(in crate::runtime) use birth::Birth;
pub(in crate::runtime) use handle::Follower;
pub(crate) use handle::NodeHandle;

use self::acquiring::Acquiring;
use self::attempts::{Running, Stopping};
use self::commits::{Answered, Outbound};
use self::doubts::{Doubts, Question};
use self::timers::Timers;
use self::uncertain::Uncertain;
use super::RuntimeOptions;
use super::activities::{AttemptDone, Surroundings};
use super::blocking::BlockingPool;
use super::heartbeat::Heartbeat;
use super::places::Places;
use super::pool::{Done, Pool};
use super::slot::Slot;
use super::turn::{Loaded, TurnJob};
use crate::activity::States;
use crate::clock::virtual_time::{ClockHold, Participant};
use crate::clock::{Clock, Timestamp};
use crate::error::ErrorCode;
use crate::id::{ActivityId, InstanceId};
use crate::provider::{
    Acquired, InstanceRecord, Lease, MessageRow, NewInstance, NodeInfo, Provider, ProviderError, Renewal, Submitted,
};
use crate::registry::Lookup;
use crate::replay::Fault;

/// The parts that do not change while the node runs.
pub(super) struct Shared {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lookup: Arc<Lookup>,
    pub(super) states: Arc<States>,
    pub(super) options: RuntimeOptions,
    pub(super) tags: Option<Arc<[String]>>,
    pub(super) info: NodeInfo,
    pub(super) notes: mpsc::UnboundedSender<Note>,
}

/// A message to the node.
pub(in crate::runtime) enum Note {
    /// A client of this process has sent a message to an instance that this node owns.
    Deliver(InstanceId, MessageRow, Submitted, ClockHold),
    /// A client of this process starts an instance.
    Start(Birth),
    /// A client of this process has created an instance that this node owns.
    Create(Box<NewInstance>, Submitted, ClockHold),
    /// A client of this process waits until an instance is not live here.
    Follow(InstanceId, Follower, ClockHold),
    /// A request of a client of this process has no answer: the instance may have changed, or may change yet.
    Uncertain(InstanceId),
    /// A client of this process has ended or removed an instance.
    Ended(InstanceId),
    /// The heartbeat has tried to renew the lease.
    Renewed(Lease, Result<Renewal, ProviderError>),
    /// The lease has expired: no renewal has succeeded for too long.
    Expired(Lease),
    /// A future that is not durable has woken a live copy, or its context was used outside of its turn.
    Stray(InstanceId, u64),
    /// The runtime shuts down. The sender is answered when everything is stored.
    Shutdown(oneshot::Sender<()>),
}

/// An event in the loop of the node.
enum Happened {
    Done(Done),
    Told(Vec<Note>),
    Answered(Answer),
    AttemptEnded(Result<AttemptDone, tokio::task::JoinError>),
    ThreadFree(u64),
    Woken,
    Due,
    TurnTakesLong,
    LookAgain,
    DrainDeadline,
}

/// An answer of the provider.
enum Answer {
    Committed(Lease, Answered),
    /// With the time of the request.
    Acquired(Lease, Timestamp, Acquired),
    History(InstanceId, u64, Result<Loaded, Fault>),
    Joined(Lease),
    Instance(InstanceId, Option<Box<InstanceRecord>>, Question),
}

/// The node of a runtime; see the module.
pub(super) struct Node {
    shared: Arc<Shared>,
    lease: Lease,
    notes: mpsc::UnboundedReceiver<Note>,
    wake: watch::Receiver<u64>,
    handle: NodeHandle,
    heartbeat: Arc<Heartbeat>,
    pool: Pool,
    around: Arc<Surroundings>,
    /// Questions to the provider that are not answered yet.
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,

    /// The instances that are live here.
    slots: HashMap<InstanceId, Slot>,
    last_generation: u64,
    /// Slots that wait, by when they were used last: the first is dropped when there are too many.
    idle: BTreeMap<u64, InstanceId>,
    last_tick: u64,
    /// Slots that may be ready for a turn.
    ready: VecDeque<InstanceId>,
    jobs: Vec<TurnJob>,
    turns: usize,
    /// Whether an activity takes its first step on a thread of the pool.
    stepping: bool,
    /// Commits that go out together at the end of the round.
    outgoing: Vec<Outbound>,

    attempts: JoinSet<AttemptDone>,
    running: HashMap<ActivityId, Running>,
    /// Attempts that were cancelled, or whose time is over, and that have not ended yet.
    stopping: Stopping,
    /// Those of them that keep a thread busy; by run.
    lingering: FuturesUnordered<BoxFuture<'static, u64>>,
    /// The places of activities that run, are about to, or have ended and are not stored yet.
    places: Places,

    acquiring: Acquiring,
    doubts: Doubts,
    uncertain: Uncertain,
    timers: Timers,
    timer: Option<(Timestamp, BoxFuture<'static, ()>)>,
    /// The timer of the check for turns that do not return. It stays set when they have returned, since setting it takes
    /// longer than most turns.
    watch: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Stops a virtual clock, except while the node is idle.
    clock_hold: ClockHold,
    draining: Option<Draining>,
    /// A join that is under way, after the lease was lost.
    rejoining: bool,
}

/// A shutdown that is under way.
struct Draining {
    done: Vec<oneshot::Sender<()>>,
    deadline: Deadline,
}

/// The end of a shutdown's wait for running activities.
enum Deadline {
    At(tokio::time::Instant),
    Never,
    Passed,
}

impl Node {
    pub(super) fn new(
        shared: Arc<Shared>,
        pool: Pool,
        lease: Lease,
        notes: mpsc::UnboundedReceiver<Note>,
        handle: NodeHandle,
        heartbeat: Arc<Heartbeat>,
    ) -> Self {
        let options = &shared.options;
        let around = Arc::new(Surroundings {
            states: shared.states.clone(),
            clock: shared.clock.clone(),
            blocking: Arc::new(BlockingPool::new(options.max_blocking_activities)),
            limits: options.limits,
        });
        let wake = shared.provider.wakeups().subscribe();
        Self {
            wake,
            pool,
            acquiring: Acquiring::new(&shared),
            doubts: Doubts::default(),
            uncertain: Uncertain::default(),
            timers: Timers::default(),
            clock_hold: shared.clock.hold(),
            shared,
            lease,
            notes,
            handle,
            heartbeat,
            around,
            asked: FuturesUnordered::new(),
            slots: HashMap::new(),
            last_generation: 0,
            idle: BTreeMap::new(),
            last_tick: 0,
            ready: VecDeque::new(),
            jobs: Vec::new(),
            turns: 0,
            stepping: false,
            outgoing: Vec::new(),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            stopping: Stopping::new(),
            lingering: FuturesUnordered::new(),
            places: Places::default(),
            timer: None,
            watch: None,
            draining: None,
            rejoining: false,
        }
    }

    /// Runs until it is shut down.
    pub(super) async fn run(mut self) {
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
            if !self.pool.share() {
                return;
            }
            self.freeze_clock();
            happened.drain(..).for_each(|happened| self.handle(happened));
        }
    }

    fn handle(&mut self, happened: Happened) {
        match happened {
            Happened::Done(Done::Turn(done)) => self.turn_done(*done),
            Happened::Done(Done::Attempt(done)) => {
                self.stepping = false;
                self.attempt_ended(*done);
            }
            Happened::Done(Done::Started(attempt)) => {
                self.stepping = false;
                self.attempts.spawn(attempt);
            }
            Happened::Told(notes) => notes.into_iter().for_each(|note| self.told(note)),
            Happened::Answered(answer) => self.answered(answer),
            // Panics of user code are caught within the attempt, and only a node that ends aborts its attempts.
            Happened::AttemptEnded(done) => done.into_iter().for_each(|done| self.attempt_ended(done)),
            Happened::ThreadFree(run) => self.thread_is_free(run),
            Happened::Woken => self.acquiring.wanted = true,
            Happened::Due => {
                self.timer = None;
                self.fire_timers();
            }
            Happened::TurnTakesLong => {
                self.watch = None;
                self.report_stuck_turns();
            }
            Happened::LookAgain => self.look_again(),
            Happened::DrainDeadline => self.drain_deadline_passed(),
        }
    }

    /// Waits for an event, and takes the events of all sources: no source starves another. The order of the sources is fixed,
    /// so that a simulation is repeatable.
    async fn next(&mut self, happened: &mut Vec<Happened>) {
        // A request may be for a history, of which a part is replayed by the pool.
        if (self.turns > 0 || !self.asked.is_empty()) && self.watch.is_none() {
            self.watch_turns(self.shared.options.turn_warning);
        }
        let deadline = self.draining.as_ref().and_then(|draining| match draining.deadline {
            Deadline::At(deadline) => Some(deadline),
            Deadline::Never | Deadline::Passed => None,
        });
        let Self { pool, notes, asked, attempts, lingering, wake, timer, watch, uncertain, .. } = self;
        let (mut woken, mut due) = (pin!(wake.changed()), pin!(due(timer)));
        let mut deadline = pin!(until(deadline));
        poll_fn(|context| {
            happened.extend(pool.take_done().into_iter().map(Happened::Done));
            let mut told = Vec::new();
            if notes.poll_recv_many(context, &mut told, 1024).is_ready() {
                happened.push(Happened::Told(told));
            }
            while let Poll::Ready(Some(answer)) = asked.poll_next_unpin(context) {
                happened.push(Happened::Answered(answer));
            }
            while let Poll::Ready(Some(done)) = attempts.poll_join_next(context) {
                happened.push(Happened::AttemptEnded(done));
            }
            while let Poll::Ready(Some(run)) = lingering.poll_next_unpin(context) {
                happened.push(Happened::ThreadFree(run));
            }
            // The sender lives in the provider, which this node holds.
            happened.extend(woken.as_mut().poll(context).is_ready().then_some(Happened::Woken));
            happened.extend(due.as_mut().poll(context).is_ready().then_some(Happened::Due));
            let late = watch.as_mut().is_some_and(|watch| watch.as_mut().poll(context).is_ready());
            happened.extend(late.then_some(Happened::TurnTakesLong));
            let tick = uncertain.tick.as_mut().is_some_and(|tick| tick.as_mut().poll(context).is_ready());
            happened.extend(tick.then_some(Happened::LookAgain));
            happened.extend(deadline.as_mut().poll(context).is_ready().then_some(Happened::DrainDeadline));
            if happened.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn told(&mut self, note: Note) {
        match note {
            Note::Deliver(instance, message, submitted, _hold) => self.forwarded(instance, message, &submitted),
            Note::Start(birth) => self.start(birth),
            Note::Create(new, submitted, _hold) => self.create(*new, submitted.number),
            Note::Follow(instance, follower, _hold) => {
                // If the instance is not live, the drop of the follower notifies it.
                if let Some(slot) = self.slots.get_mut(&instance) {
                    slot.follow(follower);
                }
            }
            Note::Uncertain(instance) => self.look_for_a_while(instance),
            Note::Ended(instance) => self.ended(instance),
            Note::Renewed(lease, renewed) => self.renewed(lease, renewed),
            Note::Expired(lease) if lease == self.lease => {
                self.step_back("the lease has expired, since it could not be renewed in time");
            }
            Note::Expired(_) => {}
            Note::Stray(instance, generation) => self.strayed(&instance, generation),
            Note::Shutdown(done) => self.begin_shutdown(done),
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Committed(lease, answered) => self.committed(lease, answered),
            Answer::Acquired(lease, sent, acquired) => self.acquired(lease, sent, acquired),
            Answer::History(instance, generation, loaded) => self.loaded(&instance, generation, loaded),
            Answer::Joined(lease) => self.joined(lease),
            Answer::Instance(instance, record, asked) => self.looked_for(instance, record.as_deref(), asked),
        }
    }

    fn start_what_is_due(&mut self) {
        self.start_turns();
        self.send_commits();
        self.acquire_if_wanted();
        self.set_timer();
        self.evict();
    }

    /// Lets a virtual clock move while the node is idle; see [`virtual_time`](crate::clock::virtual_time).
    fn release_clock_if_idle(&mut self) {
        let user_code = self.turns > 0 || self.stepping || !self.attempts.is_empty();
        let idle = !user_code && self.asked.is_empty() && self.notes.is_empty();
        if idle && !self.clock_hold.is_none() {
            self.clock_hold = self.shared.clock.join(Participant::node(self.wake.clone()));
        }
    }

    fn freeze_clock(&mut self) {
        self.clock_hold = self.shared.clock.hold();
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

    /// Sets the timer of the check for turns that do not return. A duration of more than a century sets none.
    fn watch_turns(&mut self, after: Duration) {
        self.watch =
            in_future(after.max(Duration::from_millis(1))).map(|time| Box::pin(tokio::time::sleep_until(time)));
    }

    /// Sets the timer to the earliest time at which an item becomes due: an owned instance by a timer of its own, or work at the
    /// provider, unless a request for work is sent anyway.
    fn set_timer(&mut self) {
        let at_provider = self.acquiring.next_due.filter(|_| !self.acquiring.wanted);
        let Some(due) = at_provider.into_iter().chain(self.timers.next()).min() else {
            self.timer = None;
            return;
        };
        if self.timer.as_ref().is_none_or(|(set, _)| *set != due) {
            self.timer = Some((due, self.shared.clock.sleep_until(due)));
        }
    }

    fn renewed(&mut self, lease: Lease, renewed: Result<Renewal, ProviderError>) {
        if lease != self.lease {
            return;
        }
        match renewed {
            Ok(Renewal::Held { .. }) => {}
            Ok(Renewal::Lost) => self.step_back("another node has taken over"),
            // Not a loss: the node owns its items until another node takes over, and then its commits are refused.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed; retrying"),
        }
    }

    /// Drops the live copies and cancels the activities of a lease that is lost or has expired, and joins again.
    fn step_back(&mut self, reason: &str) {
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
        self.slots.clear();
        self.idle.clear();
        self.ready.clear();
        self.cancel_attempts();
        let shared = self.shared.clone();
        self.ask(async move {
            let mut backoff = super::Backoff::default();
            loop {
                match shared.provider.join(&shared.info).await {
                    Ok(lease) => return Answer::Joined(lease),
                    Err(error) => tracing::warn!(%error, "joining again failed; retrying"),
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    fn joined(&mut self, lease: Lease) {
        self.lease = lease;
        self.rejoining = false;
        self.handle.set_lease(lease);
        self.heartbeat.renew_as(lease);
        self.acquiring = Acquiring::new(&self.shared);
        self.doubts.clear();
        self.uncertain = Uncertain::default();
        self.timers = Timers::default();
    }
}

/// Waits for the timer, if one is set.
async fn due(timer: &mut Option<(Timestamp, BoxFuture<'static, ()>)>) {
    match timer {
        Some((_, sleep)) => sleep.await,
        None => std::future::pending().await,
    }
}

/// Returns the time after a duration; `None` if that is too far away.
fn in_future(duration: Duration) -> Option<tokio::time::Instant> {
    /// More than a century, and far below the overflow of an instant.
    const NEVER: Duration = Duration::from_secs(1 << 32);
    (duration < NEVER).then(|| tokio::time::Instant::now() + duration)
}

/// Waits for a deadline, if there is one.
async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
