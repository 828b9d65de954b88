//! The threads that make turns: few, and none of them is lost for the others when user code does not return.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::node::Note;
use super::turn::TurnJob;
use crate::id::InstanceId;
use crate::replay::Core;

/// Makes turns, and sends what came of them to the node.
pub(super) struct TurnPool {
    pool: Arc<Pool>,
    inline: bool,
}

struct Pool {
    /// A std mutex: held for a few instructions, never while a turn runs.
    state: Mutex<State>,
    work: Condvar,
    /// Weak: the node ends when all who may tell it something are gone.
    notes: mpsc::WeakUnboundedSender<Note>,
    handle: tokio::runtime::Handle,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<TurnJob>,
    running: HashMap<u64, Running>,
    last_thread: u64,
    idle: usize,
    stopped: bool,
}

struct Running {
    instance: InstanceId,
    name: String,
    since: Instant,
    core: Arc<OnceLock<Arc<Core>>>,
    reported: bool,
}

/// A turn that has been running for long.
pub(super) struct StuckTurn {
    pub(super) instance: InstanceId,
    pub(super) name: String,
    pub(super) since: Duration,
    /// The place of its last durable call.
    pub(super) place: String,
}

impl TurnPool {
    /// With so many threads. Without any, turns are made where they are handed over.
    pub(super) fn new(threads: usize, notes: &mpsc::UnboundedSender<Note>) -> Self {
        let pool = Arc::new(Pool {
            state: Mutex::default(),
            work: Condvar::new(),
            notes: notes.downgrade(),
            handle: tokio::runtime::Handle::current(),
        });
        for _ in 0..threads {
            Pool::spawn(&pool);
        }
        Self { pool, inline: threads == 0 }
    }

    /// Hands over turns; together, so that threads are woken once.
    pub(super) fn run(&self, jobs: &mut Vec<TurnJob>) {
        if jobs.is_empty() {
            return;
        }
        if self.inline {
            return jobs.drain(..).for_each(|job| self.pool.make(job));
        }
        let mut state = self.pool.lock();
        state.jobs.extend(jobs.drain(..));
        let wake = state.idle.min(state.jobs.len());
        drop(state);
        for _ in 0..wake {
            self.pool.work.notify_one();
        }
    }

    /// Turns that have been running for longer than the limit and were not reported; their threads are replaced.
    pub(super) fn stuck(&self, limit: Duration) -> Vec<StuckTurn> {
        let mut state = self.pool.lock();
        let late = state.running.values_mut().filter(|r| !r.reported && r.since.elapsed() >= limit);
        let stuck: Vec<_> = late
            .map(|running| {
                running.reported = true;
                let Running { instance, name, since, core, .. } = running;
                let place = core.get().and_then(|core| core.last_place()).map_or_else(String::new, |p| p.to_string());
                StuckTurn { instance: instance.clone(), name: name.clone(), since: since.elapsed(), place }
            })
            .collect();
        drop(state);
        for _ in &stuck {
            Pool::spawn(&self.pool);
        }
        stuck
    }
}

impl Drop for TurnPool {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.stopped = true;
        state.jobs.clear();
        drop(state);
        self.pool.work.notify_all();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(pool: &Arc<Self>) {
        let thread = std::thread::Builder::new().name("duroxide-turns".to_owned());
        let own = Arc::downgrade(pool);
        if let Err(error) = thread.spawn(move || Self::work(&own)) {
            tracing::error!(%error, "a thread for turns cannot be started");
        }
    }

    /// Makes a turn on this thread, which is one of a tokio runtime.
    fn make(&self, job: TurnJob) {
        // Outside of tokio's budget for the task: a budget that ran out would look like a wait.
        let done = tokio::task::unconstrained(async { job.run(&OnceLock::new()) }).now_or_never();
        if let (Some(done), Some(notes)) = (done, self.notes.upgrade()) {
            // When the node is gone, so is the use of the turn.
            let _ = notes.send(Note::Turn(Box::new(done)));
        }
    }

    fn work(pool: &Weak<Self>) {
        let Some(pool) = pool.upgrade() else { return };
        // Within the user's tokio runtime, misuse such as `tokio::spawn` is reported by us instead of a panic by tokio.
        let handle = pool.handle.clone();
        let _entered = handle.enter();
        let mut state = pool.lock();
        state.last_thread += 1;
        let thread = state.last_thread;
        loop {
            if state.stopped {
                return;
            }
            let Some(job) = state.jobs.pop_front() else {
                state.idle += 1;
                state = pool.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            let instance = job.instance().clone();
            let core = Arc::new(OnceLock::new());
            let (name, since) = (job.name.clone(), Instant::now());
            let running = Running { instance, name, since, core: core.clone(), reported: false };
            state.running.insert(thread, running);
            drop(state);
            let done = job.run(&core);
            state = pool.lock();
            let replaced = state.running.remove(&thread).is_some_and(|running| running.reported);
            if let Some(notes) = pool.notes.upgrade() {
                // When the node is gone, so is the use of the turn.
                let _ = notes.send(Note::Turn(Box::new(done)));
            }
            if replaced {
                return;
            }
        }
    }
}
