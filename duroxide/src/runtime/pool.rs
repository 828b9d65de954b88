//! The threads of a runtime. They drive the node, make turns, among which count parts of a replay, and take the first step of
//! activities.
//!
//! ```text
//! answer of the storage ──► node ──► activity ──► node ──► turn ──► node ──► next commit
//!                           └───────────────── on one thread ─────────────┘
//! ```
//!
//! From one commit of an instance to the next there is little to do, and waking another thread for a part of it takes
//! longer than the part. So whatever the node gives out is taken by the thread that has driven the node, unless another
//! comes first; others are woken only for what is left then.
//!
//! No kind of work waits for user code of another kind to return. One thread at most drives the node, one takes a first
//! step, and a given number make turns: there is a thread for each of them.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, ThreadId};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::activities::{AttemptDone, AttemptEnd};
use super::turn::{ReplayJob, TurnDone, TurnJob};
use crate::id::InstanceId;
use crate::replay::Core;

/// See the module. All clones are one pool.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

/// An attempt at an activity, on its way.
pub(super) type Running = BoxFuture<'static, AttemptDone>;

/// What was done for the node.
pub(super) enum Done {
    /// A turn was made.
    Turn(Box<TurnDone>),
    /// An activity has ended with its first step.
    Attempt(Box<AttemptDone>),
    /// An activity waits for something, and goes on elsewhere.
    Started(Running),
}

struct Shared {
    /// A std mutex: held for a few instructions, never while anything runs.
    state: Mutex<State>,
    /// How many turns are made at the same time. None: each is made where it is handed over, and there are no threads.
    turns: usize,
    handle: tokio::runtime::Handle,
    /// Nobody drives the node any more.
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// The node. `None` while a thread drives it.
    node: Option<BoxFuture<'static, ()>>,
    driver: Option<ThreadId>,
    /// Whether something has happened for the node that it has not looked at.
    awake: bool,
    jobs: VecDeque<Job>,
    making: HashMap<u64, Making>,
    last_turn: u64,
    first_step: Option<Running>,
    stepping: bool,
    done: Vec<Done>,
    idle: Vec<Thread>,
    stopped: bool,
}

/// What runs code of an orchestration.
enum Job {
    Turn(TurnJob),
    Replay(ReplayJob),
}

impl Job {
    fn about(&self) -> (&InstanceId, &str) {
        match self {
            Self::Turn(job) => (job.instance(), &job.name),
            Self::Replay(job) => (job.instance(), &job.name),
        }
    }

    /// Does it. What there is to tell the node, unless somebody else waits for it.
    fn run(self, core: &OnceLock<Arc<Core>>) -> Option<Done> {
        match self {
            Self::Turn(job) => Some(Done::Turn(Box::new(job.run(core)))),
            Self::Replay(job) => {
                job.run(core);
                None
            }
        }
    }
}

/// A turn, or a part of a replay, that is being made.
struct Making {
    instance: InstanceId,
    name: String,
    since: Instant,
    core: Arc<OnceLock<Arc<Core>>>,
    /// Whether it was reported as one that does not return.
    reported: bool,
    /// Whether its thread is replaced, and ends when it does.
    replaced: bool,
}

/// A turn that has been running for long.
pub(super) struct StuckTurn {
    pub(super) instance: InstanceId,
    pub(super) name: String,
    pub(super) since: Duration,
    /// The place of its last durable call.
    pub(super) place: String,
}

/// The next work of a thread.
#[expect(clippy::large_enum_variant, reason = "a box would cost an allocation for each turn")]
enum Work {
    Turn(u64, Job, Arc<OnceLock<Arc<Core>>>),
    FirstStep(Running),
    Node(BoxFuture<'static, ()>),
}

impl Pool {
    /// One that makes so many turns at the same time. Without any, they are made where they are handed over.
    pub(super) fn new(turns: usize) -> Self {
        let handle = tokio::runtime::Handle::current();
        Self(Arc::new(Shared { state: Mutex::default(), turns, handle, left: Condvar::new() }))
    }

    /// Drives a node until it ends or the pool is stopped.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn drive(&self, node: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        let mut state = self.0.lock();
        (state.node, state.awake) = (Some(node.boxed()), true);
        drop(state);
        let started = (0..self.0.turns + 2).try_for_each(|_| self.spawn());
        if started.is_err() {
            self.stop();
        }
        started
    }

    fn spawn(&self) -> std::io::Result<()> {
        let shared = self.0.clone();
        std::thread::Builder::new().name("duroxide-node".to_owned()).spawn(move || shared.work()).map(drop)
    }

    /// Drops the node, and ends the threads as soon as they have no user code to return to. Afterwards nobody drives the
    /// node, which may need what goes away next: tokio's timers.
    pub(super) fn stop(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        std::mem::take(&mut state.idle).iter().for_each(Thread::unpark);
        let this = std::thread::current().id();
        while state.driver.is_some_and(|driver| driver != this) {
            state = self.0.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let rest = (state.node.take(), state.first_step.take(), std::mem::take(&mut state.jobs), state.take_done());
        drop(state);
        // Without the lock, since what is dropped may wake the node, and where destructors of user code find tokio.
        let _entered = self.0.handle.enter();
        drop(rest);
    }

    /// Hands over turns.
    pub(super) fn make(&self, jobs: &mut Vec<TurnJob>) {
        if self.0.turns == 0 {
            jobs.drain(..).for_each(|job| self.run_here(Job::Turn(job)));
        } else if !jobs.is_empty() {
            self.0.lock().jobs.extend(jobs.drain(..).map(Job::Turn));
        }
    }

    /// Hands over a part of a replay.
    pub(super) fn replay(&self, job: ReplayJob) {
        if self.0.turns == 0 {
            self.run_here(Job::Replay(job));
        } else {
            self.0.lock().jobs.push_back(Job::Replay(job));
        }
    }

    fn run_here(&self, job: Job) {
        // Outside of tokio's budget for the task: a budget that ran out would look like a wait.
        let done = tokio::task::unconstrained(async { job.run(&OnceLock::new()) }).now_or_never();
        self.0.lock().done.extend(done.flatten());
    }

    /// Has the first step of an activity taken here, where none is under way: many ends with it. Gives it back otherwise:
    /// an activity that blocks its thread is to hold up no other.
    pub(super) fn first_step(&self, attempt: Running) -> Result<(), Running> {
        let mut state = self.0.lock();
        if self.0.turns == 0 || state.stepping || state.first_step.is_some() {
            return Err(attempt);
        }
        state.first_step = Some(attempt);
        Ok(())
    }

    /// What was done since the last call.
    pub(super) fn take_done(&self) -> Vec<Done> {
        self.0.lock().take_done()
    }

    /// The node has more to do before it looks again: another thread begins with what was handed over. Whether it is to go
    /// on: not where the pool was stopped.
    pub(super) fn share(&self) -> bool {
        let mut state = self.0.lock();
        let (helper, goes_on) = (state.helper(self.0.turns), !state.stopped);
        drop(state);
        unpark(helper);
        goes_on
    }

    /// Turns that have been running for longer than the limit and were not reported; their threads are replaced. And how
    /// soon the next of those that run will have.
    pub(super) fn stuck(&self, limit: Duration) -> (Vec<StuckTurn>, Option<Duration>) {
        let mut state = self.0.lock();
        let mut stuck = Vec::new();
        let (mut next, mut failed) = (None, None);
        for turn in state.making.values_mut().filter(|turn| !turn.replaced) {
            let since = turn.since.elapsed();
            if since < limit {
                next = next.into_iter().chain([limit - since]).min();
                continue;
            }
            if !std::mem::replace(&mut turn.reported, true) {
                let place = turn.core.get().and_then(|core| core.last_place());
                let place = place.map_or_else(String::new, |place| place.to_string());
                stuck.push(StuckTurn { instance: turn.instance.clone(), name: turn.name.clone(), since, place });
            }
            match self.spawn() {
                Ok(()) => turn.replaced = true,
                Err(error) => {
                    failed = Some(error);
                    next = next.into_iter().chain([limit]).min();
                }
            }
        }
        drop(state);
        if let Some(error) = failed {
            tracing::error!(%error, "the thread of a turn that does not return cannot be replaced yet");
        }
        (stuck, next)
    }
}

impl State {
    /// Takes what is to be done next. Turns come first: the node has more to commit at once then.
    fn take(&mut self, turns: usize) -> Option<Work> {
        if self.may_make_turn(turns)
            && let Some(job) = self.jobs.pop_front()
        {
            self.last_turn += 1;
            let core = Arc::new(OnceLock::new());
            let (instance, name) = job.about();
            let (instance, name, since) = (instance.clone(), name.to_owned(), Instant::now());
            let making = Making { instance, name, since, core: core.clone(), reported: false, replaced: false };
            self.making.insert(self.last_turn, making);
            return Some(Work::Turn(self.last_turn, job, core));
        }
        if let Some(attempt) = self.first_step.take() {
            self.stepping = true;
            return Some(Work::FirstStep(attempt));
        }
        let node = if self.awake { self.node.take() } else { None };
        self.awake &= node.is_none();
        self.driver = node.is_some().then(|| std::thread::current().id()).or(self.driver);
        node.map(Work::Node)
    }

    fn may_make_turn(&self, turns: usize) -> bool {
        !self.jobs.is_empty() && self.making.values().filter(|turn| !turn.replaced).count() < turns
    }

    /// A thread that is idle, if there is something for it to do.
    fn helper(&mut self, turns: usize) -> Option<Thread> {
        let work = self.may_make_turn(turns) || self.first_step.is_some() || (self.awake && self.node.is_some());
        if work { self.idle.pop() } else { None }
    }

    fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    /// Keeps what was done for the node, unless there is none any more: then it is given back.
    fn keep(&mut self, done: Done) -> Option<Done> {
        if self.stopped {
            return Some(done);
        }
        self.done.push(done);
        self.awake = true;
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(self: Arc<Self>) {
        // Within the user's tokio runtime, misuse such as `tokio::spawn` is reported by us instead of a panic by tokio, and
        // activities find what they need.
        let _entered = self.handle.enter();
        let waker = Waker::from(self.clone());
        let mut state = self.lock();
        while !state.stopped {
            let Some(work) = state.take(self.turns) else {
                state = self.rest(state);
                continue;
            };
            let helper = state.helper(self.turns);
            drop(state);
            unpark(helper);
            let goes_on = match work {
                Work::Turn(number, job, core) => self.make_turn(number, job, &core),
                Work::FirstStep(attempt) => self.take_first_step(attempt),
                Work::Node(node) => self.drive_node(node, &waker),
            };
            if !goes_on {
                return;
            }
            state = self.lock();
        }
    }

    /// Waits until there is something to do.
    fn rest<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let this = std::thread::current();
        // The one that was busy last is woken first: what it needs is still at hand.
        state.idle.push(this.clone());
        loop {
            drop(state);
            std::thread::park();
            state = self.lock();
            if state.idle.iter().all(|thread| thread.id() != this.id()) {
                return state;
            }
        }
    }

    /// Whether the thread goes on.
    fn make_turn(&self, number: u64, job: Job, core: &OnceLock<Arc<Core>>) -> bool {
        let done = job.run(core);
        let mut state = self.lock();
        let replaced = state.making.remove(&number).is_some_and(|turn| turn.replaced);
        let of_no_use = done.and_then(|done| state.keep(done));
        let helper = if replaced { state.helper(self.turns) } else { None };
        drop(state);
        unpark(helper);
        drop(of_no_use);
        !replaced
    }

    fn take_first_step(&self, mut attempt: Running) -> bool {
        // What it waits for wakes it where it goes on: there it is polled again.
        let step = poll_fn(|_| Poll::Ready(attempt.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
        // Under the same rules as there: with tokio's budget, and without blocking for another future.
        let done = match self.handle.block_on(step) {
            Poll::Ready(done) => Done::Attempt(Box::new(done)),
            Poll::Pending => Done::Started(attempt),
        };
        // Where tokio ends, it fails what an activity waits for: that is no outcome of the activity.
        let failed = matches!(&done, Done::Attempt(done) if matches!(done.end, AttemptEnd::Failed(..)));
        let of_no_use = failed && matches!(self.handle.spawn(async {}).now_or_never(), Some(Err(_)));
        let mut state = self.lock();
        state.stepping = false;
        let of_no_use = if of_no_use { Some(done) } else { state.keep(done) };
        drop(state);
        drop(of_no_use);
        true
    }

    fn drive_node(&self, mut node: BoxFuture<'static, ()>, waker: &Waker) -> bool {
        let _driving = Driving(self);
        let polled = Pin::new(&mut node).poll(&mut Context::from_waker(waker));
        let mut state = self.lock();
        if polled.is_pending() && !state.stopped {
            state.node = Some(node);
            state.driver = None;
        } else {
            drop(state);
            drop(node);
        }
        true
    }
}

/// Nobody drives the node once this is dropped: also where a destructor of user code panics.
struct Driving<'a>(&'a Shared);

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // Where the node was put back, another may drive it already.
        let this = std::thread::current().id();
        state.driver.take_if(|driver| *driver == this);
        drop(state);
        self.0.left.notify_all();
    }
}

/// Something has happened for the node.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.lock();
        // Whoever drives the node, or is about to look for work, sees it.
        let slept = !std::mem::replace(&mut state.awake, true) && state.node.is_some();
        let helper = if slept { state.idle.pop() } else { None };
        drop(state);
        unpark(helper);
    }
}

fn unpark(thread: Option<Thread>) {
    if let Some(thread) = thread {
        thread.unpark();
    }
}
