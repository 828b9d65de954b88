//! Providers that wrap another one.

use std::ops::Deref;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::*;
use crate::clock::Clock;
use crate::id::{EventId, ExecutionId, InstanceId};

/// A layer before another provider, which intercepts some of its calls: to count, delay, encode or refuse them. A
/// method that the layer does not implement forwards the call to [`inner`](ProviderLayer::inner), and methods that
/// later versions add to [`Provider`] will do so as well. [`Layered`] makes a provider of a layer.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use duroxide::provider::*;
/// use futures_util::future::BoxFuture;
///
/// struct Counting { inner: MemoryProvider, submissions: AtomicUsize }
///
/// impl ProviderLayer for Counting {
///     fn inner(&self) -> &dyn Provider {
///         &self.inner
///     }
///
///     fn submit(
///         &self,
///         entries: Vec<Submission>,
///     ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
///         self.submissions.fetch_add(entries.len(), Ordering::Relaxed);
///         self.inner.submit(entries)
///     }
/// }
///
/// let provider = Layered(Counting { inner: MemoryProvider::new(), submissions: AtomicUsize::new(0) });
/// let client = duroxide::Client::new(provider);
/// ```
pub trait ProviderLayer: Send + Sync + 'static {
    /// Returns the provider to which calls are forwarded.
    fn inner(&self) -> &dyn Provider;

    /// See [`Provider::join`].
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        self.inner().join(node)
    }

    /// See [`Provider::renew`].
    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        self.inner().renew(lease, report)
    }

    /// See [`Provider::leave`].
    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.inner().leave(lease)
    }

    /// See [`Provider::acquire`].
    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        self.inner().acquire(lease, want)
    }

    /// See [`Provider::commit`].
    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        self.inner().commit(lease, entries)
    }

    /// See [`Provider::submit`].
    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        self.inner().submit(entries)
    }

    /// See [`Provider::history`].
    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        self.inner().history(execution, after)
    }

    /// See [`Provider::instance`].
    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.inner().instance(instance)
    }

    /// See [`Provider::watch`].
    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.inner().watch(instance)
    }

    /// See [`Provider::clock`].
    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.inner().clock()
    }

    /// See [`Provider::admin`].
    fn admin(&self) -> Option<&dyn Admin> {
        self.inner().admin()
    }

    /// See [`Provider::transactional`]. The writes within a transaction do not pass through the layer.
    fn transactional(&self) -> Option<&dyn Transactional> {
        self.inner().transactional()
    }

    /// See [`Provider::wakeups`].
    fn wakeups(&self) -> &Wakeups {
        self.inner().wakeups()
    }
}

/// The provider that a [`ProviderLayer`] makes of its inner one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layered<L>(
    /// The layer.
    pub L,
);

impl<L> Deref for Layered<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.0
    }
}

impl<L: ProviderLayer> Provider for Layered<L> {
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        self.0.join(node)
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        self.0.renew(lease, report)
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.0.leave(lease)
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        self.0.acquire(lease, want)
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        self.0.commit(lease, entries)
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        self.0.submit(entries)
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        self.0.history(execution, after)
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.0.instance(instance)
    }

    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.0.watch(instance)
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.0.clock()
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.0.admin()
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        self.0.transactional()
    }

    fn wakeups(&self) -> &Wakeups {
        self.0.wakeups()
    }
}
