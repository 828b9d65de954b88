//! Measures the calls of a provider.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::*;
use crate::error::ErrorCode;
use crate::id::{EventId, ExecutionId, InstanceId};
use crate::telemetry::{Histogram, counter, histogram, names};

/// A layer that measures the time and the errors of each call of a provider, as the metrics
/// `duroxide_provider_operation_duration_seconds` and `duroxide_provider_errors_total`.
///
/// A runtime puts it before its provider. A client without a runtime needs it only if its calls are to be measured. The
/// methods of [`Admin`] are measured as well; a token of another storage counts as no error.
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

macro_rules! operations {
    ($($operation:ident $name:literal)*) => {
        /// A method of [`Provider`] or [`Admin`].
        #[derive(Clone, Copy)]
        enum Operation {
            $($operation,)*
        }

        /// The values of the label `operation`.
        const OPERATIONS: &[&str] = &[$($name),*];
    };
}

operations! {
    Join "join"
    Renew "renew"
    Leave "leave"
    Acquire "acquire"
    Commit "commit"
    Submit "submit"
    History "history"
    Instance "instance"
    Watch "watch"
    List "list"
    Groups "groups"
    Nodes "nodes"
    DepartedNodes "departed_nodes"
    Builds "builds"
    Activities "activities"
    Events "events"
    Messages "messages"
    Rows "rows"
    Delete "delete"
    Prune "prune"
    Record "record"
    Audit "audit"
    PruneAudit "prune_audit"
}

impl Measured {
    /// Puts the layer before a provider. The recorder must be installed before.
    pub fn new(inner: impl Provider) -> Self {
        Self::shared(Arc::new(inner))
    }

    pub(crate) fn shared(inner: Arc<dyn Provider>) -> Self {
        let duration = |operation: &&str| histogram(names::PROVIDER_DURATION, &[("operation", operation)]);
        let durations = std::array::from_fn(|n| duration(&OPERATIONS[n]));
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
                Err(error) if error.code() == ErrorCode::InvalidPageToken => (0, false),
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

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin().map(|_| self as &dyn Admin)
    }
}

impl Measured {
    /// Measures a call of the [`Admin`], which the inner provider has if it had one when [`ProviderLayer::admin`] was called.
    fn admin_call<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: impl FnOnce(&'a dyn Admin) -> BoxFuture<'a, Result<T, ProviderError>>,
    ) -> BoxFuture<'a, Result<T, ProviderError>> {
        match self.inner.admin() {
            Some(admin) => self.call(operation, call(admin)),
            None => {
                let code = ErrorCode::AdminNotSupported;
                let name = OPERATIONS[operation as usize];
                Box::pin(async move { Err(ProviderError::permanent(name, code.meaning()).with_code(code)) })
            }
        }
    }
}

impl Admin for Measured {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        self.admin_call(Operation::List, |admin| admin.list(filter, page))
    }

    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        time_limit: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>> {
        self.admin_call(Operation::Groups, |admin| admin.groups(of, filter, by, time_limit))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        self.admin_call(Operation::Nodes, |admin| admin.nodes())
    }

    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>> {
        self.admin_call(Operation::DepartedNodes, |admin| admin.departed_nodes(limit))
    }

    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>> {
        self.admin_call(Operation::Builds, |admin| admin.builds())
    }

    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>> {
        self.admin_call(Operation::Activities, |admin| admin.activities(instance))
    }

    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>> {
        self.admin_call(Operation::Events, |admin| admin.events(execution, query))
    }

    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>> {
        self.admin_call(Operation::Messages, |admin| admin.messages(instance))
    }

    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>> {
        self.admin_call(Operation::Rows, |admin| admin.rows(instance))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        self.admin_call(Operation::Delete, |admin| admin.delete(instances, audit))
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        self.admin_call(Operation::Prune, |admin| admin.prune(filter, before, batch))
    }

    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.admin_call(Operation::Record, |admin| admin.record(entries))
    }

    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>> {
        self.admin_call(Operation::Audit, |admin| admin.audit(query, page))
    }

    fn prune_audit(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>> {
        self.admin_call(Operation::PruneAudit, |admin| admin.prune_audit(before, limit))
    }
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}
