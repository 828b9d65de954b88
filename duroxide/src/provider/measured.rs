//! Measures the calls of a provider.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;

use super::*;
use crate::id::{EventId, ExecutionId, InstanceId};
use crate::telemetry::{Histogram, counter, histogram, names};

/// A layer that measures the time and the errors of each call of a provider, as the metrics
/// `duroxide_provider_operation_duration_seconds` and `duroxide_provider_errors_total`.
///
/// A runtime puts it before its provider. A client without a runtime needs it only if its calls are to be measured. The
/// reads of [`Admin`] are not measured.
///
/// ```
/// use duroxide::Client;
/// use duroxide::provider::{Layered, Measured, MemoryProvider};
///
/// let client = Client::new(Layered(Measured::new(MemoryProvider::new())));
/// # drop(client);
/// ```
pub struct Measured {
    inner: Arc<dyn Provider>,
    durations: [Histogram; OPERATIONS.len()],
}

/// A method of [`Provider`].
#[derive(Clone, Copy)]
enum Operation {
    Join,
    Renew,
    Leave,
    Acquire,
    Commit,
    Submit,
    History,
    Instance,
    Watch,
}

const OPERATIONS: [&str; 9] = ["join", "renew", "leave", "acquire", "commit", "submit", "history", "instance", "watch"];

impl Measured {
    /// Puts the layer before a provider. The recorder must be installed before.
    pub fn new(inner: impl Provider) -> Self {
        Self::shared(Arc::new(inner))
    }

    pub(crate) fn shared(inner: Arc<dyn Provider>) -> Self {
        let durations = OPERATIONS.map(|operation| histogram(names::PROVIDER_DURATION, &[("operation", operation)]));
        Self { inner, durations }
    }

    /// Measures a call.
    fn call<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: BoxFuture<'a, Result<T, ProviderError>>,
    ) -> BoxFuture<'a, Result<T, ProviderError>> {
        self.batch(operation, call, |_| 0)
    }

    /// Measures a call. `failures` returns the number of entries in its answer that the storage has failed to write.
    fn batch<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: BoxFuture<'a, Result<T, ProviderError>>,
        failures: impl Fn(&T) -> usize + Send + 'a,
    ) -> BoxFuture<'a, Result<T, ProviderError>> {
        let begun = Instant::now();
        Box::pin(async move {
            let answer = call.await;
            self.durations[operation as usize].record(begun.elapsed().as_secs_f64());
            let (failures, is_retryable) = match &answer {
                Ok(answer) => (failures(answer), true),
                Err(error) => (1, error.is_retryable()),
            };
            if failures > 0 {
                let labels = [
                    ("operation", OPERATIONS[operation as usize]),
                    ("retryable", if is_retryable { "true" } else { "false" }),
                ];
                counter(names::PROVIDER_ERRORS, &labels).increment(failures as u64);
            }
            answer
        })
    }
}

impl ProviderLayer for Measured {
    fn inner(&self) -> &dyn Provider {
        &*self.inner
    }

    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        self.call(Operation::Join, self.inner.join(node))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        self.call(Operation::Renew, self.inner.renew(lease, report))
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.call(Operation::Leave, self.inner.leave(lease))
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        self.call(Operation::Acquire, self.inner.acquire(lease, want))
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        let failed = |answer: &&Result<_, _>| matches!(answer, Err(CommitError::Failed(_)));
        self.batch(Operation::Commit, self.inner.commit(lease, entries), move |answers: &Vec<_>| {
            answers.iter().filter(failed).count()
        })
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        let failed = |answer: &&Result<_, _>| matches!(answer, Err(SubmitError::Failed(_)));
        self.batch(Operation::Submit, self.inner.submit(entries), move |answers: &Vec<_>| {
            answers.iter().filter(failed).count()
        })
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        self.call(Operation::History, self.inner.history(execution, after))
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.call(Operation::Instance, self.inner.instance(instance))
    }

    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.call(Operation::Watch, self.inner.watch(instance))
    }
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}
