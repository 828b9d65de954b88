//! The running attempts of activities. The pool of the node takes their first steps; the tokio runtime runs the rest.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::{JoinError, JoinSet};

use super::attempt::BusyThread;
use super::{Attempt, AttemptDone, AttemptEnv};
use crate::activity::{ActivityCode, CancelSignal};

/// A running attempt of an activity.
pub(in crate::node) type RunningAttempt = BoxFuture<'static, AttemptDone>;

/// The attempts that run.
pub(in crate::node) struct Attempts {
    env: Arc<AttemptEnv>,
    tasks: JoinSet<AttemptDone>,
    /// Resolves to the run whose thread is free.
    busy_threads: FuturesUnordered<BoxFuture<'static, u64>>,
    /// True if an attempt takes its first step on a thread of the pool.
    first_step: bool,
}

impl Attempts {
    pub(in crate::node) fn new(env: AttemptEnv) -> Self {
        let (tasks, busy_threads) = (JoinSet::new(), FuturesUnordered::new());
        Self { env: Arc::new(env), tasks, busy_threads, first_step: false }
    }

    /// Returns true if no attempt runs.
    pub(in crate::node) fn is_idle(&self) -> bool {
        !self.first_step && self.tasks.is_empty()
    }

    /// Returns the future of an attempt.
    pub(in crate::node) fn run(&self, attempt: Attempt, code: ActivityCode, cancel: CancelSignal) -> RunningAttempt {
        attempt.run(code, self.env.clone(), cancel).boxed()
    }

    /// Continues an attempt on the tokio runtime.
    pub(in crate::node) fn spawn(&mut self, attempt: RunningAttempt) {
        self.tasks.spawn(attempt);
    }

    /// The pool takes the first step of an attempt.
    pub(in crate::node) fn first_step_begins(&mut self) {
        self.first_step = true;
    }

    pub(in crate::node) fn first_step_has_ended(&mut self) {
        self.first_step = false;
    }

    /// Waits until the thread of a run is free.
    pub(in crate::node) fn wait_for_thread(&mut self, run: u64, thread: BusyThread) {
        self.busy_threads.push(Box::pin(thread.map(move |_| run)));
    }

    pub(in crate::node) fn poll_ended(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AttemptDone, JoinError>>> {
        self.tasks.poll_join_next(context)
    }

    pub(in crate::node) fn poll_free_thread(&mut self, context: &mut Context<'_>) -> Poll<Option<u64>> {
        self.busy_threads.poll_next_unpin(context)
    }

    pub(in crate::node) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }
}
