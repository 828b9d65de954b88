//! Reports async activities that block the threads that poll them.
//!
//! Code that blocks in an async activity holds a worker of tokio, or the thread that takes first steps: other activities
//! and timers of the program are delayed silently, so a dedicated thread monitors polls that take long.
//! It uses no timer of tokio, because the blocked worker may be the one that drives the timers.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::AttemptFacts;
use crate::clock::{Clock, Timestamp};
use crate::provider::{StuckCode, Tenure};

/// Watches the polls of async activities, until it is dropped.
pub(super) struct PollWatch(Option<Arc<Watch>>);

/// The polls that a [`PollWatch`] watches.
pub(in crate::node) struct PollView(Option<Arc<Watch>>);

/// The polls that run, and the thread that looks at them.
struct Watch {
    /// A std mutex: held for a few instructions, never while user code runs.
    state: Mutex<State>,
    changed: Condvar,
    limit: Duration,
}

#[derive(Default)]
struct State {
    /// A few: one for each thread that polls.
    polls: Vec<RunningPoll>,
    last: u64,
    /// True if the thread waits without a limit, so that the next poll must wake it.
    sleeps: bool,
    stopped: bool,
}

struct RunningPoll {
    number: u64,
    attempt: Arc<AttemptFacts>,
    since: Instant,
    reported: bool,
    /// When it began, by the clock of the node. `None` until it is reported.
    began: Option<Timestamp>,
}

impl PollWatch {
    /// Starts the thread. `Duration::MAX`: there is none, and polls are not watched.
    pub(super) fn start(limit: Duration, clock: Arc<dyn Clock>) -> Self {
        if limit == Duration::MAX {
            return Self(None);
        }
        let watch = Arc::new(Watch { state: Mutex::default(), changed: Condvar::new(), limit });
        let watching = watch.clone();
        let thread = std::thread::Builder::new().name("duroxide-watch".to_owned());
        if let Err(error) = thread.spawn(move || watching.run(&*clock)) {
            tracing::error!(%error, "the thread that reports blocking activities cannot be started");
            return Self(None);
        }
        Self(Some(watch))
    }

    /// Returns a view of the polls that run.
    pub(super) fn view(&self) -> PollView {
        PollView(self.0.clone())
    }

    /// Returns a future that is watched while it is polled.
    pub(super) fn watch<F: Future + Send>(
        &self,
        attempt: &Arc<AttemptFacts>,
        future: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let watched = self.0.clone().map(|watch| (watch, attempt.clone()));
        async move {
            let mut future = pin!(future);
            poll_fn(|context| {
                let _running = watched.as_ref().map(|(watch, attempt)| Running::begin(watch, attempt));
                future.as_mut().poll(context)
            })
            .await
        }
    }
}

impl PollView {
    /// Returns the attempts whose polls were reported and still run.
    pub(in crate::node) fn stuck_code(&self) -> Vec<StuckCode> {
        let Some(watch) = &self.0 else { return Vec::new() };
        let state = watch.lock();
        let stuck = state.polls.iter().filter_map(|poll| {
            let began = poll.began?;
            let AttemptFacts { tenure: Tenure { activity, attempt, .. }, scheduled, .. } = &*poll.attempt;
            let (execution, name) = (activity.execution.clone(), scheduled.name.clone());
            Some(StuckCode::attempt(execution, name, (activity.call, *attempt), began))
        });
        stuck.collect()
    }
}

impl Drop for PollWatch {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.lock().stopped = true;
            watch.changed.notify_one();
        }
    }
}

/// Ends a poll on drop, even if it panics.
struct Running<'a> {
    number: u64,
    watch: &'a Watch,
}

impl<'a> Running<'a> {
    fn begin(watch: &'a Watch, attempt: &Arc<AttemptFacts>) -> Self {
        Self { number: watch.begin(attempt), watch }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let ended = self.watch.lock().end(self.number);
        if let Some(RunningPoll { attempt, since, .. }) = ended.filter(|poll| poll.reported) {
            let AttemptFacts { tenure: Tenure { activity, attempt, .. }, scheduled, .. } = &*attempt;
            tracing::warn!(
                instance = %activity.execution.instance, call = %activity.call, activity = scheduled.name, attempt,
                seconds = since.elapsed().as_secs_f64(),
                "the activity no longer blocks its thread",
            );
        }
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, attempt: &Arc<AttemptFacts>) -> u64 {
        let since = Instant::now();
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.polls.push(RunningPoll { number, attempt: attempt.clone(), since, reported: false, began: None });
        if std::mem::take(&mut state.sleeps) {
            self.changed.notify_one();
        }
        number
    }

    fn run(&self, clock: &dyn Clock) {
        let mut state = self.lock();
        while !state.stopped {
            let (slow, next) = state.slow(self.limit);
            if !slow.is_empty() {
                drop(state);
                slow.iter().for_each(|poll| report(&poll.attempt, poll.since));
                // Without the lock, since a clock may be user code.
                let now = clock.now();
                state = self.lock();
                state.begun(&slow, now);
                continue;
            }
            state.sleeps = next.is_none();
            state = match next {
                Some(next) => self.changed.wait_timeout(state, next).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// A poll that has reached the limit.
struct SlowPoll {
    number: u64,
    attempt: Arc<AttemptFacts>,
    since: Duration,
}

impl State {
    /// Notes when these polls began, if they still run.
    fn begun(&mut self, slow: &[SlowPoll], now: Timestamp) {
        for poll in &mut self.polls {
            if let Some(slow) = slow.iter().find(|slow| slow.number == poll.number) {
                poll.began = Some(now - slow.since);
            }
        }
    }

    fn end(&mut self, number: u64) -> Option<RunningPoll> {
        let at = self.polls.iter().position(|poll| poll.number == number)?;
        Some(self.polls.swap_remove(at))
    }

    /// Returns the attempts whose polls that have reached the limit and were not reported, and the time until the next one reaches it.
    fn slow(&mut self, limit: Duration) -> (Vec<SlowPoll>, Option<Duration>) {
        let (mut slow, mut next) = (Vec::new(), None::<Duration>);
        for poll in self.polls.iter_mut().filter(|poll| !poll.reported) {
            let since = poll.since.elapsed();
            match limit.checked_sub(since).filter(|rest| !rest.is_zero()) {
                Some(rest) => next = Some(next.map_or(rest, |next| next.min(rest))),
                None => {
                    poll.reported = true;
                    slow.push(SlowPoll { number: poll.number, attempt: poll.attempt.clone(), since });
                }
            }
        }
        (slow, next)
    }
}

fn report(attempt: &AttemptFacts, since: Duration) {
    let AttemptFacts { tenure: Tenure { activity, attempt, .. }, scheduled, .. } = attempt;
    tracing::warn!(
        instance = %activity.execution.instance, call = %activity.call, activity = scheduled.name, attempt,
        seconds = since.as_secs_f64(),
        "an async activity blocks its thread: other activities and timers of the program may wait; write it as a plain \
         `fn`, which runs on a thread of its own, or move what blocks into `tokio::task::spawn_blocking`",
    );
}
