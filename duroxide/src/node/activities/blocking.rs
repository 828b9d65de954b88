//! A bounded pool of threads for blocking activities. Tokio's own pool is left to user code.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// Threads are started on demand, up to a limit, and end after they have been idle for a while.
pub(in crate::node) struct BlockingPool(Arc<Pool>);

struct Pool {
    /// A std mutex: held for a few instructions, never while a job runs.
    state: Mutex<State>,
    work: Condvar,
    max_threads: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl BlockingPool {
    const IDLE: Duration = Duration::from_secs(10);

    pub(in crate::node) fn new(max_threads: usize) -> Self {
        let max_threads = max_threads.max(1);
        Self(Arc::new(Pool { state: Mutex::default(), work: Condvar::new(), max_threads }))
    }

    pub(in crate::node) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() || state.threads >= self.0.max_threads {
            self.0.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let pool = self.0.clone();
        let thread = std::thread::Builder::new().name("duroxide-blocking".to_owned());
        if let Err(error) = thread.spawn(move || pool.work()) {
            tracing::error!(%error, "a thread for blocking activities cannot be started");
            self.0.lock().threads -= 1;
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout_while(state, BlockingPool::IDLE, |state| state.jobs.is_empty());
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}
