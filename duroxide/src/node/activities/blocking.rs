//! A bounded pool of threads for blocking activities. Tokio's own pool is left to user code.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backoff::Backoff;

type Job = Box<dyn FnOnce() + Send>;

/// Threads are started on demand, up to a limit, and end after they have been idle for a while. All clones are one pool.
#[derive(Clone)]
pub(in crate::node) struct BlockingPool(Arc<Threads>);

struct Threads {
    /// A std mutex: held while a thread is started, never while a job runs.
    state: Mutex<State>,
    work: Condvar,
    max_threads: usize,
    /// Starts a thread.
    start: fn(Job) -> std::io::Result<()>,
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
        Self::with(max_threads, |run| {
            std::thread::Builder::new().name("duroxide-blocking".to_owned()).spawn(run).map(drop)
        })
    }

    fn with(max_threads: usize, start: fn(Job) -> std::io::Result<()>) -> Self {
        let max_threads = max_threads.max(1);
        Self(Arc::new(Threads { state: Mutex::default(), work: Condvar::new(), max_threads, start }))
    }

    /// Submits a job. Resolves once a thread will run it. As long as there is no thread and none can be started, it
    /// tries again: too few threads or too little memory must not become the outcome of an activity.
    ///
    /// # Cancel safety
    /// If the future is dropped before it has resolved, the job does not run.
    pub(in crate::node) async fn run(&self, job: impl FnOnce() + Send + 'static) {
        let (mut job, mut backoff): (Job, _) = (Box::new(job), Backoff::default());
        while let Err((refused, error)) = self.submit(job) {
            tracing::error!(%error, "no thread for blocking activities can be started; trying again");
            job = refused;
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Submits a job. Returns it if there is no thread, and none can be started.
    fn submit(&self, job: Job) -> Result<(), (Job, std::io::Error)> {
        let mut state = self.0.lock();
        if state.idle <= state.jobs.len() && state.threads < self.0.max_threads {
            let pool = self.0.clone();
            match (self.0.start)(Box::new(move || pool.work())) {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err((job, error)),
                Err(error) => {
                    tracing::warn!(%error, "cannot start another thread for blocking activities");
                }
            }
        }
        state.jobs.push_back(job);
        self.0.work.notify_one();
        Ok(())
    }
}

impl Threads {
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn job_waits_until_a_thread_can_be_started() {
        /// The number of failures that are left.
        static FAILURES: AtomicUsize = AtomicUsize::new(3);
        let pool = BlockingPool::with(2, |run| {
            let left = |failures: usize| failures.checked_sub(1);
            match FAILURES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
                Ok(_) => Err(ErrorKind::WouldBlock.into()),
                Err(_) => std::thread::Builder::new().spawn(run).map(drop),
            }
        });
        let (sender, done) = mpsc::channel();
        let other = sender.clone();
        pool.run(move || sender.send("first").unwrap()).await;
        assert_eq!(FAILURES.load(Ordering::Relaxed), 0);
        assert_eq!(done.recv(), Ok("first"));
        // The thread that runs takes the job if a second one cannot be started.
        FAILURES.store(1, Ordering::Relaxed);
        let (hold, held) = mpsc::channel::<()>();
        pool.run(move || _ = held.recv()).await;
        pool.run(move || other.send("second").unwrap()).await;
        drop(hold);
        assert_eq!(done.recv(), Ok("second"));
    }

    #[tokio::test(start_paused = true)]
    async fn job_of_a_dropped_submission_does_not_run() {
        let pool = BlockingPool::with(1, |_| Err(ErrorKind::WouldBlock.into()));
        let (sender, done) = mpsc::channel::<()>();
        let run = pool.run(move || drop(sender));
        assert!(tokio::time::timeout(Duration::from_secs(60), run).await.is_err(), "it tries until it is dropped");
        assert_eq!(done.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert!(pool.0.lock().jobs.is_empty());
    }
}
