//! The node: one task that owns everything that is live here, and decides what happens next.
//!
//! It is told things ([`Note`]s from clients and turn threads, answers of the provider, ends of activities), changes its
//! state, and starts what follows from it: turns, activities, commits. It never waits for any of these.

mod acquiring;
mod attempts;
mod commits;
mod handle;
mod shutdown;
mod turns;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub(crate) use handle::NodeHandle;

use self::acquiring::Acquiring;
use self::attempts::{Running, Stopping};
use self::commits::{Answered, Outbound};
use super::RuntimeOptions;
use super::activities::{AttemptDone, Surroundings};
use super::blocking::BlockingPool;
use super::heartbeat::Heartbeat;
use super::pool::TurnPool;
use super::slot::{Delivery, Slot};
use super::turn::{TurnDone, TurnJob};
use crate::activity::States;
use crate::clock::{Clock, Hold, Party, Timestamp};
use crate::id::{ActivityId, InstanceId};
use crate::provider::{Acquired, EventRow, Lease, MessageRow, NewInstance, NodeInfo, Provider, ProviderError, Renewal};
use crate::registry::Lookup;

/// What does not change while the node runs.
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

/// What the node is told.
pub(in crate::runtime) enum Note {
    /// A turn was made.
    Turn(Box<TurnDone>),
    /// A client of this process has sent a message to an instance that this node owns.
    Deliver(InstanceId, MessageRow, Hold),
    /// A client of this process has created an instance that this node owns; with the number of its first execution.
    Create(Box<NewInstance>, u64, Hold),
    /// A client of this process does not know whether it has created an instance that this node owns.
    Uncertain(InstanceId),
    /// A client of this process has ended or removed an instance.
    Ended(InstanceId),
    /// The heart has beaten.
    Renewed(Lease, Result<Renewal, ProviderError>),
    /// Something that is not durable has woken a live copy, or its context was used outside of its turn.
    Stray(InstanceId, u64),
    /// No more work; answer when everything is stored.
    Shutdown(oneshot::Sender<()>),
}

/// What the node waits for.
enum Happened {
    Told,
    Answered(Answer),
    AttemptEnded(Result<AttemptDone, tokio::task::JoinError>),
    Woken,
    Due,
    TurnTakesLong,
    DrainDeadline,
}

/// What the provider has answered.
enum Answer {
    Committed(Lease, Answered),
    Acquired(Lease, Acquired),
    History(InstanceId, u64, Vec<EventRow>),
    Joined(Lease),
}

/// See the module.
pub(super) struct Node {
    shared: Arc<Shared>,
    lease: Lease,
    notes: mpsc::UnboundedReceiver<Note>,
    wake: watch::Receiver<u64>,
    /// The last wake-up that was taken note of, for a clock that asks.
    woken: Arc<AtomicU64>,
    _party: Hold,
    handle: NodeHandle,
    heartbeat: Arc<Heartbeat>,
    pool: TurnPool,
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
    /// Commits that go out together at the end of the round.
    outgoing: Vec<Outbound>,

    attempts: JoinSet<AttemptDone>,
    running: HashMap<ActivityId, Running>,
    /// Attempts that were cancelled and have not ended yet.
    stopping: Stopping,
    /// Activities that run or are about to: async, blocking.
    used: [usize; 2],

    acquiring: Acquiring,
    timer: Option<(Timestamp, BoxFuture<'static, ()>)>,
    /// When to look for turns that do not return; while there are turns.
    watch: Option<tokio::time::Instant>,
    /// While something happens here, a virtual clock stands still.
    hold: Hold,
    draining: Option<Draining>,
    /// A join that is under way, after the lease was lost.
    rejoining: bool,
}

/// A shutdown that is under way.
struct Draining {
    done: Vec<oneshot::Sender<()>>,
    deadline: Deadline,
}

/// Until when a shutdown waits for running activities.
enum Deadline {
    At(tokio::time::Instant),
    Never,
    Passed,
}

impl Node {
    pub(super) fn new(
        shared: Arc<Shared>,
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
        let woken = Arc::new(AtomicU64::new(*wake.borrow()));
        let settled = {
            let (wake, woken) = (wake.clone(), woken.clone());
            Box::new(move || *wake.borrow() == woken.load(Ordering::Acquire))
        };
        Self {
            _party: shared.clock.join(Party { settled, waits: false }),
            woken,
            wake,
            pool: TurnPool::new(options.turn_threads, &shared.notes),
            acquiring: Acquiring::new(&shared),
            hold: shared.clock.hold(),
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
            outgoing: Vec::new(),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            stopping: Stopping::new(),
            used: [0, 0],
            timer: None,
            watch: None,
            draining: None,
            rejoining: false,
        }
    }

    /// Works until it is shut down.
    pub(super) async fn run(mut self) {
        let mut notes = Vec::new();
        loop {
            self.start_what_is_due();
            if self.is_drained() {
                return self.leave().await;
            }
            self.let_time_pass_if_idle();
            let happened = self.next(&mut notes).await;
            self.hold_time();
            match happened {
                Happened::Told => notes.drain(..).for_each(|note| self.told(note)),
                Happened::Answered(answer) => self.answered(answer),
                Happened::AttemptEnded(done) => self.attempt_ended(done),
                Happened::Woken => {
                    self.woken.store(*self.wake.borrow(), Ordering::Release);
                    self.acquiring.wanted = true;
                }
                Happened::Due => {
                    self.timer = None;
                    self.acquiring.wanted = true;
                }
                Happened::TurnTakesLong => {
                    self.watch = None;
                    self.report_stuck_turns();
                }
                Happened::DrainDeadline => self.drain_deadline_passed(),
            }
        }
    }

    /// Waits for the next thing to happen.
    async fn next(&mut self, notes: &mut Vec<Note>) -> Happened {
        let long = self.shared.options.turn_warning;
        self.watch = if self.turns > 0 { self.watch.or_else(|| in_future(long)) } else { None };
        let watch = self.watch;
        let deadline = self.draining.as_ref().and_then(|draining| match draining.deadline {
            Deadline::At(deadline) => Some(deadline),
            Deadline::Never | Deadline::Passed => None,
        });
        tokio::select! {
            _ = self.notes.recv_many(notes, 1024) => Happened::Told,
            Some(answer) = self.asked.next() => Happened::Answered(answer),
            Some(done) = self.attempts.join_next() => Happened::AttemptEnded(done),
            Ok(()) = self.wake.changed() => Happened::Woken,
            () = due(&mut self.timer) => Happened::Due,
            () = until(watch) => Happened::TurnTakesLong,
            () = until(deadline) => Happened::DrainDeadline,
        }
    }

    fn told(&mut self, note: Note) {
        match note {
            Note::Turn(done) => self.turn_done(*done),
            Note::Deliver(instance, message, _hold) => self.deliver(instance, Delivery::Message(message)),
            Note::Create(new, execution, _hold) => self.create(*new, execution),
            Note::Uncertain(instance) => self.acquiring.load(instance),
            Note::Ended(instance) => self.ended(instance),
            Note::Renewed(lease, renewed) => self.renewed(lease, renewed),
            Note::Stray(instance, generation) => self.strayed(&instance, generation),
            Note::Shutdown(done) => self.begin_shutdown(done),
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Committed(lease, answered) => self.committed(lease, answered),
            Answer::Acquired(lease, acquired) => self.acquired(lease, acquired),
            Answer::History(instance, generation, events) => self.loaded(&instance, generation, events),
            Answer::Joined(lease) => self.joined(lease),
        }
    }

    fn start_what_is_due(&mut self) {
        self.start_turns();
        self.send_commits();
        self.acquire_if_wanted();
        self.set_timer();
        self.evict();
    }

    /// A virtual clock may move only while nothing happens here.
    fn let_time_pass_if_idle(&mut self) {
        let busy = self.turns > 0 || !self.asked.is_empty() || !self.attempts.is_empty() || !self.notes.is_empty();
        if !busy {
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

    /// Sets the timer to the earliest time at which something becomes due.
    fn set_timer(&mut self) {
        let Some(due) = self.acquiring.next_due else {
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
            Ok(Renewal::Held { cancelled }) => cancelled.iter().for_each(|id| self.cancel_attempt(id)),
            Ok(Renewal::Lost) => self.step_back(),
            // Not a loss: what this node owns it owns until another takes over, and then its commits are refused.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed; it is tried again"),
        }
    }

    /// Another node has taken over: drops what it owned, and joins anew.
    fn step_back(&mut self) {
        if self.rejoining || self.draining.is_some() {
            return;
        }
        tracing::warn!(node = %self.lease.node, "another node has taken over what this one owned; joining again");
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
                    Err(error) => tracing::warn!(%error, "joining again failed; it is tried again"),
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
    }
}

/// Waits for the timer, if one is set.
async fn due(timer: &mut Option<(Timestamp, BoxFuture<'static, ()>)>) {
    match timer {
        Some((_, sleep)) => sleep.await,
        None => std::future::pending().await,
    }
}

/// The time after a duration; `None` where that is never.
fn in_future(duration: Duration) -> Option<tokio::time::Instant> {
    /// More than a century: far from where instants overflow.
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
