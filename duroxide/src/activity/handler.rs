//! Erases the types of activities: their code becomes a function over payloads.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Activity, ActivityContext, ActivityFn, BlockingActivityFn};
use crate::payload::{Payload, PayloadError};

/// The code of an activity.
#[derive(Clone)]
pub(crate) enum ActivityCode {
    Async(Arc<dyn Fn(ActivityContext, Payload) -> BoxFuture<'static, Ended> + Send + Sync>),
    Blocking(Arc<dyn Fn(ActivityContext, Payload) -> Ended + Send + Sync>),
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
}

impl ActivityCode {
    pub(crate) fn of<A: ActivityFn>() -> Self {
        Self::Async(Arc::new(|ctx, input| {
            Box::pin(async move {
                match input.decode() {
                    Ok(input) => ended::<A>(A::run(ctx, input).await, A::is_retryable),
                    Err(error) => Ended::UnreadableInput(error),
                }
            })
        }))
    }

    pub(crate) fn of_blocking<A: BlockingActivityFn>() -> Self {
        Self::Blocking(Arc::new(|ctx, input| match input.decode() {
            Ok(input) => ended::<A>(A::run(ctx, input), A::is_retryable),
            Err(error) => Ended::UnreadableInput(error),
        }))
    }
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
        Self::Async(Arc::new(move |ctx, input| {
            let mock = mock.clone();
            Box::pin(async move {
                match input.decode() {
                    Ok(input) => ended::<A>(mock(ctx, input).await, is_retryable),
                    Err(error) => Ended::UnreadableInput(error),
                }
            })
        }))
    }

    /// Returns code that panics with the message that this function returns.
    pub(crate) fn failing(message: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::Async(Arc::new(move |_, _| {
            let message = message();
            Box::pin(async move { panic!("{message}") })
        }))
    }
}

fn ended<A: Activity>(result: Result<A::Output, A::Error>, is_retryable: fn(&A::Error) -> bool) -> Ended {
    let stored = match &result {
        Ok(output) => Payload::encode_readable(output).map(Ended::Completed),
        Err(error) => {
            let failed = |error_payload| Ended::Failed { error: error_payload, retryable: is_retryable(error) };
            Payload::encode_readable(error).map(failed)
        }
    };
    stored.unwrap_or_else(Ended::UnstorableOutcome)
}
