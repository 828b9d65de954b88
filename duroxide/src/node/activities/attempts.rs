//! The running attempts of activities: on the pool of the node for their first step, else on the tokio runtime.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::{JoinError, JoinSet};

use super::attempt::BusyThread;
use super::{Attempt, AttemptDone, AttemptEnv};
use crate::activity::{ActivityCode, CancelSignal};
use crate::node::pool::Pool;

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

    pub(in crate::node) fn start(&mut self, attempt: Attempt, code: ActivityCode, cancel: CancelSignal, pool: &Pool) {
        let is_blocking = matches!(code, ActivityCode::Blocking(_));
        let attempt = attempt.run(code, self.env.clone(), cancel).boxed();
        match if is_blocking { Err(attempt) } else { pool.first_step(attempt) } {
            Ok(()) => self.first_step = true,
            Err(attempt) => drop(self.tasks.spawn(attempt)),
        }
    }

    /// The first step was taken. Continues the attempt on the tokio runtime, unless it has ended.
    pub(in crate::node) fn first_step_was_taken(&mut self, rest: Option<BoxFuture<'static, AttemptDone>>) {
        self.first_step = false;
        rest.into_iter().for_each(|rest| drop(self.tasks.spawn(rest)));
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
