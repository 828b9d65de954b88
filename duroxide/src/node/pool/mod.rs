//! The threads of a runtime. They drive the node, run turns and parts of replays, and take the first step of
//! activities.
//!
//! ```text
//! answer of the storage ──► node ──► activity ──► node ──► turn ──► node ──► next commit
//!                           └───────────────── on one thread ─────────────┘
//! ```
//!
//! The work between two commits of an instance is short, and waking another thread for a part of it takes longer than
//! the part. The thread that has driven the node therefore takes the work that the node has submitted, unless another
//! thread takes it first. Other threads are woken only for the rest.
//!
//! No kind of work waits for user code of another kind to return. At most one thread drives the node, one takes a first
//! step, and a given number run turns: there is a thread for each of them.

mod watchdog;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, ThreadId};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use watchdog::RunningTurn;

use super::activities::{AttemptDone, AttemptEnd, RunningAttempt};
use super::turn::{ReplayJob, TurnDone, TurnJob};
use crate::replay::Core;

/// The threads. All clones are one pool.
#[derive(Clone)]
pub(in crate::node) struct Pool(Arc<Shared>);

/// Finished work of the pool.
pub(in crate::node) enum Done {
    /// A turn has ended.
    Turn(TurnDone),
    /// An activity has ended with its first step.
    Attempt(Box<AttemptDone>),
    /// An activity waits after its first step, and continues on the tokio runtime.
    Started(RunningAttempt),
}

struct Shared {
    /// A std mutex: held for a few instructions, never while user code runs.
    state: Mutex<State>,
    /// The number of turns that run at the same time. Zero: each turn runs on the thread that submits it, and there are
    /// no threads.
    turns: usize,
    handle: tokio::runtime::Handle,
    /// Notified when a thread has stopped driving the node.
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// The node. `None` while a thread drives it.
    node: Option<BoxFuture<'static, ()>>,
    driver: Option<ThreadId>,
    /// True if the node was woken since its last poll.
    awake: bool,
    jobs: VecDeque<Job>,
    /// A few: one for each thread that runs a turn.
    running: Vec<(u64, RunningTurn)>,
    last_turn: u64,
    first_step: Option<RunningAttempt>,
    stepping: bool,
    done: Vec<Done>,
    idle: Vec<Thread>,
    stopped: bool,
}

/// Work that runs the code of an orchestration.
enum Job {
    Turn(TurnJob),
    Replay(ReplayJob),
}

impl Job {
    /// Runs the job. Returns the result for the node; a replay sends its result itself.
    fn run(self, core: &OnceLock<Arc<Core>>) -> Option<Done> {
        match self {
            Self::Turn(job) => Some(Done::Turn(job.run(core))),
            Self::Replay(job) => {
                job.run(core);
                None
            }
        }
    }
}

/// The next work of a thread.
enum Work {
    Turn(u64, Job, Arc<OnceLock<Arc<Core>>>),
    FirstStep(RunningAttempt),
    Node(BoxFuture<'static, ()>),
}

impl Pool {
    /// Makes a pool that runs this number of turns at the same time. Zero: turns run on the thread that submits them.
    pub(in crate::node) fn new(turns: usize) -> Self {
        let handle = tokio::runtime::Handle::current();
        Self(Arc::new(Shared { state: Mutex::default(), turns, handle, left: Condvar::new() }))
    }

    /// Drives a node until it ends or the pool is stopped.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(in crate::node) fn drive(&self, node: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
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

    /// Drops the node, and ends each thread once no user code runs on it. When this returns, no thread drives the node,
    /// so the tokio runtime, whose timers the node uses, may be dropped.
    pub(in crate::node) fn stop(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        std::mem::take(&mut state.idle).iter().for_each(Thread::unpark);
        let this = std::thread::current().id();
        while state.driver.is_some_and(|driver| driver != this) {
            state = self.0.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let rest = (state.node.take(), state.first_step.take(), std::mem::take(&mut state.jobs), state.take_done());
        drop(state);
        // Without the lock, since a drop may wake the node; and within tokio, for destructors of user code.
        let _entered = self.0.handle.enter();
        drop(rest);
    }

    /// Submits turns.
    pub(in crate::node) fn submit(&self, jobs: &mut Vec<TurnJob>) {
        if self.0.turns == 0 {
            jobs.drain(..).for_each(|job| self.run_here(Job::Turn(job)));
        } else if !jobs.is_empty() {
            self.0.lock().jobs.extend(jobs.drain(..).map(Job::Turn));
        }
    }

    /// Submits a part of a replay.
    pub(in crate::node) fn replay(&self, job: ReplayJob) {
        if self.0.turns == 0 {
            self.run_here(Job::Replay(job));
        } else {
            self.0.lock().jobs.push_back(Job::Replay(job));
        }
    }

    fn run_here(&self, job: Job) {
        // Outside of tokio's budget for the task: an exhausted budget would look like a wait.
        let done = tokio::task::unconstrained(async { job.run(&OnceLock::new()) }).now_or_never();
        self.0.lock().done.extend(done.flatten());
    }

    /// Takes the first step of an activity on a thread of the pool, since many activities end with it. Returns the
    /// attempt if another first step is pending: an activity that blocks its thread must not delay others.
    pub(in crate::node) fn first_step(&self, attempt: RunningAttempt) -> Result<(), RunningAttempt> {
        let mut state = self.0.lock();
        if self.0.turns == 0 || state.stepping || state.first_step.is_some() {
            return Err(attempt);
        }
        state.first_step = Some(attempt);
        Ok(())
    }

    /// Returns the work that has finished since the last call.
    pub(in crate::node) fn take_done(&self) -> Vec<Done> {
        self.0.lock().take_done()
    }

    /// Wakes an idle thread for the submitted work, while the node continues on this one. Returns false if the pool was
    /// stopped.
    pub(in crate::node) fn wake_helper(&self) -> bool {
        let mut state = self.0.lock();
        let (helper, continues) = (state.helper(self.0.turns), !state.stopped);
        drop(state);
        unpark(helper);
        continues
    }
}

impl State {
    /// Returns the next work. Turns come first, so that the node has more to commit at once.
    fn take(&mut self, turns: usize) -> Option<Work> {
        if self.may_run_turn(turns)
            && let Some(job) = self.jobs.pop_front()
        {
            self.last_turn += 1;
            let core = Arc::new(OnceLock::new());
            self.running.push((self.last_turn, RunningTurn::new(&job, core.clone())));
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

    fn may_run_turn(&self, turns: usize) -> bool {
        !self.jobs.is_empty() && self.running.iter().filter(|(_, turn)| !turn.replaced).count() < turns
    }

    /// Removes a turn that has ended. Returns true if another thread has taken its place.
    fn turn_ends(&mut self, number: u64) -> bool {
        let at = self.running.iter().position(|(running, _)| *running == number);
        at.is_some_and(|at| self.running.swap_remove(at).1.replaced)
    }

    /// Returns an idle thread, if there is work for it.
    fn helper(&mut self, turns: usize) -> Option<Thread> {
        let work = self.may_run_turn(turns) || self.first_step.is_some() || (self.awake && self.node.is_some());
        if work { self.idle.pop() } else { None }
    }

    fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    /// Stores finished work for the node. Returns it if the pool was stopped.
    fn push_done(&mut self, done: Done) -> Option<Done> {
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
        // Within the user's tokio runtime, misuse such as `tokio::spawn` is reported by us instead of a panic of tokio,
        // and activities have the runtime that they need.
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
            let continues = match work {
                Work::Turn(number, job, core) => self.run_turn(number, job, &core),
                Work::FirstStep(attempt) => self.take_first_step(attempt),
                Work::Node(node) => self.drive_node(node, &waker),
            };
            if !continues {
                return;
            }
            state = self.lock();
        }
    }

    /// Waits until there is work.
    fn rest<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let this = std::thread::current();
        // The thread that was busy last is woken first: its caches are warm.
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

    /// Runs a turn. Returns true if the thread continues.
    fn run_turn(&self, number: u64, job: Job, core: &OnceLock<Arc<Core>>) -> bool {
        let done = job.run(core);
        let mut state = self.lock();
        let replaced = state.turn_ends(number);
        let unused = done.and_then(|done| state.push_done(done));
        let helper = if replaced { state.helper(self.turns) } else { None };
        drop(state);
        unpark(helper);
        drop(unused);
        !replaced
    }

    fn take_first_step(&self, mut attempt: RunningAttempt) -> bool {
        // The waker does nothing: an attempt that waits is polled again on the tokio runtime.
        let step = poll_fn(|_| Poll::Ready(attempt.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
        // Under the rules of a tokio task: with tokio's budget, and without a nested `block_on`.
        let done = match self.handle.block_on(step) {
            Poll::Ready(done) => Done::Attempt(Box::new(done)),
            Poll::Pending => Done::Started(attempt),
        };
        // A tokio runtime that shuts down fails the operations of an activity. Such a failure is not an outcome of the
        // activity.
        let failed = matches!(&done, Done::Attempt(done) if matches!(done.end, AttemptEnd::Failed(..)));
        let is_shutdown = failed && matches!(self.handle.spawn(async {}).now_or_never(), Some(Err(_)));
        let mut state = self.lock();
        state.stepping = false;
        let unused = if is_shutdown { Some(done) } else { state.push_done(done) };
        drop(state);
        drop(unused);
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

/// Marks the node as not driven on drop, even if a destructor of user code panics.
struct Driving<'a>(&'a Shared);

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // If the node was put back, another thread may drive it already.
        let this = std::thread::current().id();
        state.driver.take_if(|driver| *driver == this);
        drop(state);
        self.0.left.notify_all();
    }
}

/// Wakes the node.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.lock();
        // A thread that drives the node, or is about to take work, sees the flag.
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
