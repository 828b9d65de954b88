//! A lane for requests that are not batches: one connection, and a queue of work for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::provider::{ProviderError, Wakeups};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::again::has_panicked;
use crate::connect::{LIMIT, Shared, Use};
use crate::fault::Fault;
use crate::link::Link;
use crate::state::State;

type Work = Box<dyn FnOnce(Result<Shared, String>) -> BoxFuture<'static, ()> + Send>;

struct Job {
    queued: Instant,
    work: Work,
}

pub(crate) struct Lane {
    /// Not bounded, because each caller waits for its answer.
    jobs: mpsc::UnboundedSender<Job>,
    limit: Duration,
    wakeups: Wakeups,
}

impl Lane {
    /// Starts a lane on the current runtime. It ends when the returned value is dropped and its queue is empty. Requests
    /// run one after another; those of [`Use::Reading`], whose statements are each a transaction, run side by side.
    pub(crate) fn spawn(state: Arc<State>, purpose: Use, limit: Duration) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let wakeups = state.wakeups.clone();
        tokio::spawn(async move { while has_panicked("requests", run(&state, purpose, &mut queue)).await {} });
        Self { jobs, limit, wakeups }
    }

    /// Runs work in the lane. A request whose caller is gone before it begins is skipped; one that has begun is carried out
    /// as a whole, even if its caller is dropped.
    pub(crate) async fn call<T, F>(
        &self,
        operation: &'static str,
        work: impl FnOnce(Shared) -> F + Send + 'static,
    ) -> Result<T, ProviderError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
    {
        self.call_within(self.limit, operation, work).await
    }

    /// Like [`call`](Self::call), with another limit. When it has passed, the connection is not used again.
    pub(crate) async fn call_within<T, F>(
        &self,
        limit: Duration,
        operation: &'static str,
        work: impl FnOnce(Shared) -> F + Send + 'static,
    ) -> Result<T, ProviderError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let (answer, answered) = oneshot::channel();
        let wakeups = self.wakeups.clone();
        let work: Work = Box::new(move |connection| {
            Box::pin(async move {
                if answer.is_closed() {
                    return;
                }
                let answered = answer.send(match connection {
                    Ok(connection) => carry_out(operation, connection, limit, work).await,
                    Err(reason) => Err(ProviderError::retryable(operation, reason)),
                });
                if answered.is_err() {
                    // No caller learns of the effect, such as a claim.
                    wakeups.work();
                }
            })
        });
        let failed = |reason: &str| ProviderError::retryable(operation, reason);
        let sent = self.jobs.send(Job { queued: Instant::now(), work });
        sent.map_err(|_| failed("the threads of the provider have ended"))?;
        answered.await.map_err(|_| failed("the request has panicked, or the provider has ended"))?
    }
}

async fn run(state: &Arc<State>, purpose: Use, queue: &mut mpsc::UnboundedReceiver<Job>) {
    let mut link = Link::new(state.clone(), purpose);
    while let Some(Job { queued, work }) = queue.recv().await {
        let work = work(link.connection(queued).await);
        if purpose == Use::Reading {
            tokio::spawn(work);
        } else {
            work.await;
        }
    }
}

async fn carry_out<T, F>(
    operation: &'static str,
    connection: Shared,
    limit: Duration,
    work: impl FnOnce(Shared) -> F,
) -> Result<T, ProviderError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let done = tokio::time::timeout(limit, work(connection.clone())).await.unwrap_or_else(|_| {
        // A shorter limit may pass on a busy machine.
        if limit >= LIMIT {
            connection.fell_silent();
        }
        Err(Fault::Late)
    });
    done.map_err(|fault| {
        if !fault.spares_connection() {
            connection.spoil();
        }
        fault.of(operation)
    })
}
