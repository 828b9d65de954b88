//! Erases the types of activities: their code becomes a function over payloads.

#[cfg(feature = "testing")]
use std::sync::Arc;

use futures_util::future::BoxFuture;

#[cfg(feature = "testing")]
use super::Activity;
use super::transaction::{run_blocking_transactional, run_transactional};
use super::{ActivityContext, ActivityFn, BlockingActivityFn, BlockingTransactionalFn, TransactionalFn};
use crate::payload::{Payload, PayloadError, Storable, read_input};

/// The code of an activity.
#[derive(Clone)]
pub(crate) enum ActivityCode {
    Async(fn(ActivityContext, Payload) -> BoxFuture<'static, Ended>),
    Blocking(fn(ActivityContext, Payload) -> Ended),
    /// Async code that replaces that of the program in a test.
    #[cfg(feature = "testing")]
    Replaced(Arc<dyn Fn(ActivityContext, Payload) -> BoxFuture<'static, Ended> + Send + Sync>),
}

/// The end of one attempt.
#[derive(Debug)]
pub(crate) enum Ended {
    Completed(Payload),
    Failed {
        error: Payload,
        retryable: bool,
    },
    /// The input cannot be read, so the activity was not run.
    UnreadableInput(PayloadError),
    /// The result of the activity cannot be stored.
    UnstorableOutcome(PayloadError),
    /// The outcome of a transactional activity is stored already, or the attempt is over.
    Recorded,
    /// The transaction did not end within its limit.
    TimedOut,
    /// The code has left its transaction in a state in which it cannot be committed.
    Unusable(String),
}

impl ActivityCode {
    pub(crate) const fn of<A: ActivityFn>() -> Self {
        Self::Async(run_async::<A>)
    }

    pub(crate) const fn of_blocking<A: BlockingActivityFn>() -> Self {
        Self::Blocking(run_blocking::<A>)
    }

    pub(crate) const fn of_transactional<A: TransactionalFn>() -> Self {
        Self::Async(run_transactional::<A>)
    }

    pub(crate) const fn of_blocking_transactional<A: BlockingTransactionalFn>() -> Self {
        Self::Blocking(run_blocking_transactional::<A>)
    }

    /// Returns true if the code blocks its thread.
    pub(crate) fn is_blocking(&self) -> bool {
        matches!(self, Self::Blocking(_))
    }
}

fn run_async<A: ActivityFn>(ctx: ActivityContext, input: Payload) -> BoxFuture<'static, Ended> {
    match read_input(&input) {
        Ok(input) => run(Box::pin(A::run(ctx, input)), A::is_retryable),
        Err(error) => unreadable(error),
    }
}

fn run_blocking<A: BlockingActivityFn>(ctx: ActivityContext, input: Payload) -> Ended {
    match read_input(&input) {
        Ok(input) => ended(A::run(ctx, input), A::is_retryable),
        Err(error) => Ended::UnreadableInput(error),
    }
}

/// Runs async code. It is generic over the types of the result only: so functions with the same types share it.
fn run<T: Storable, E: Storable>(
    code: BoxFuture<'static, Result<T, E>>,
    is_retryable: fn(&E) -> bool,
) -> BoxFuture<'static, Ended> {
    Box::pin(async move { ended(code.await, is_retryable) })
}

fn unreadable(error: PayloadError) -> BoxFuture<'static, Ended> {
    Box::pin(std::future::ready(Ended::UnreadableInput(error)))
}

#[cfg(feature = "testing")]
impl ActivityCode {
    /// Returns code that replaces an activity in a test.
    pub(crate) fn mock<A: Activity>(
        mock: impl Fn(ActivityContext, A::Input) -> Result<A::Output, A::Error> + Send + Sync + 'static,
        is_retryable: fn(&A::Error) -> bool,
    ) -> Self {
        let mock = Arc::new(mock);
        let mock = move |ctx, input| {
            let mock = mock.clone();
            // Called by the future, whose panics are caught.
            async move { mock(ctx, input) }
        };
        Self::mock_async::<A, _>(mock, is_retryable)
    }

    /// As [`mock`](Self::mock), for a mock that waits.
    pub(crate) fn mock_async<A: Activity, F>(
        mock: impl Fn(ActivityContext, A::Input) -> F + Send + Sync + 'static,
        is_retryable: fn(&A::Error) -> bool,
    ) -> Self
    where
        F: Future<Output = Result<A::Output, A::Error>> + Send + 'static,
    {
        let mock = Arc::new(mock);
        Self::Replaced(Arc::new(move |ctx, input| {
            let mock = mock.clone();
            Box::pin(async move {
                match read_input(&input) {
                    Ok(input) => ended(mock(ctx, input).await, is_retryable),
                    Err(error) => Ended::UnreadableInput(error),
                }
            })
        }))
    }

    /// Returns code that panics with the message that this function returns.
    pub(crate) fn failing(message: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::Replaced(Arc::new(move |_, _| {
            let message = message();
            Box::pin(async move { panic!("{message}") })
        }))
    }
}

pub(super) fn ended<T: Storable, E: Storable>(result: Result<T, E>, is_retryable: fn(&E) -> bool) -> Ended {
    let stored = match &result {
        Ok(output) => Payload::encode_readable(output).map(Ended::Completed),
        Err(error) => {
            let failed = |error_payload| Ended::Failed { error: error_payload, retryable: is_retryable(error) };
            Payload::encode_readable(error).map(failed)
        }
    };
    stored.unwrap_or_else(Ended::UnstorableOutcome)
}
