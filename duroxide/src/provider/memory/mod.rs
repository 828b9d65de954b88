//! The reference provider: the simplest code that fulfils the contract. Its state lives in this process and ends with
//! it.

mod acquire;
mod activities;
mod audit;
mod departed;
mod graft;
mod groups;
mod members;
mod pause;
mod queue;
mod reads;
mod redact;
mod rollout;
mod state;
mod submit;
mod transaction;
mod turns;
mod wake;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use self::state::State;
use self::transaction::Owned;
pub(crate) use self::transaction::{Begun, Beside};
use super::*;
use crate::clock::Timestamp;
use crate::id::{Epoch, EventId, ExecutionId, InstanceId};

/// A provider that keeps its state in memory: for tests, and for work that may be lost with the process.
///
/// Clones share one store. Time is taken from the calls ([`Want::now`], [`Turn::time`] and so on); a call without a
/// time uses the latest one seen.
#[derive(Clone, Default)]
pub struct MemoryProvider {
    /// A std mutex: held for one operation, never across an await.
    state: Arc<Mutex<State>>,
    wakeups: Wakeups,
}

impl MemoryProvider {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Marks the node of an epoch as dead, as if its process had been killed: the next call of any node takes over its
    /// items.
    pub fn kill(&self, epoch: Epoch) {
        self.with(|state| state.kill(epoch));
    }

    /// Returns the messages and activities that remain in the store.
    #[cfg(feature = "testing")]
    pub(crate) fn left(&self) -> Left {
        self.with(|state| Left {
            messages: state.messages.values().map(|message| message.to.clone()).collect(),
            activities: state.activities.keys().cloned().collect(),
        })
    }

    /// Returns every item that is owned by an ended epoch. No take-over will ever release such an item.
    #[cfg(feature = "testing")]
    pub(crate) fn orphans(&self) -> Vec<(String, Epoch)> {
        self.with(|state| {
            let instances = state.instances.iter().map(|(id, instance)| (id.to_string(), instance.owner));
            let activities = state.activities.iter().map(|(id, activity)| (id.to_string(), activity.owner));
            let owned = instances.chain(activities).filter_map(|(item, owner)| Some((item, owner?)));
            owned.filter(|(_, owner)| !state.nodes.contains_key(owner)).collect()
        })
    }

    /// Returns all executions that were not pruned.
    #[cfg(feature = "testing")]
    pub(crate) fn all_executions(&self) -> std::collections::BTreeSet<ExecutionId> {
        let of = |(id, instance): (&InstanceId, &state::Instance)| {
            let numbers: Vec<u64> = instance.executions.keys().copied().collect();
            let (id, identity) = (id.clone(), instance.identity());
            numbers.into_iter().map(move |number| ExecutionId { instance: id.clone(), identity, number })
        };
        self.with(|state| state.instances.iter().flat_map(of).collect())
    }

    /// Runs one operation under the lock, and then sends the signals that it has collected.
    fn with<T>(&self, operation: impl FnOnce(&mut State) -> T) -> T {
        let (result, signals) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let result = operation(&mut state);
            (result, std::mem::take(&mut state.signals))
        };
        self.wakeups.tell(signals);
        result
    }

    fn answer<'a, T: Send>(
        &'a self,
        operation: impl FnOnce(&mut State) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, ProviderError>> {
        Box::pin(async move { Ok(self.with(operation)) })
    }
}

/// The messages, by their instances, and the activities that remain in a store.
#[cfg(feature = "testing")]
pub(crate) struct Left {
    pub(crate) messages: Vec<InstanceId>,
    pub(crate) activities: Vec<crate::id::ActivityId>,
}

impl fmt::Debug for MemoryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryProvider").finish_non_exhaustive()
    }
}

impl Provider for MemoryProvider {
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        self.answer(|state| state.join(node))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        self.answer(|state| state.renew(lease, report))
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.answer(|state| state.leave(lease))
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        self.answer(move |state| state.acquire(lease, &want))
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        self.answer(move |state| {
            state.take_over_dead();
            entries.into_iter().map(|entry| state.commit(lease, Arc::unwrap_or_clone(entry))).collect()
        })
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        self.answer(move |state| entries.into_iter().map(|entry| state.submit(entry)).collect())
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        self.answer(move |state| state.history(execution, after))
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.answer(|state| state.record(instance))
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }
}

impl Admin for MemoryProvider {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        Box::pin(async move { self.with(|state| state.list(filter, page)) })
    }

    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        _: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>> {
        self.answer(move |state| state.groups(of, filter, by))
    }

    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>> {
        let departed = self.with(|state| state.departed_nodes(limit));
        Box::pin(async { Ok(departed) })
    }

    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>> {
        let builds = self.with(|state| state.builds());
        Box::pin(async { Ok(builds) })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        self.answer(|state| state.nodes())
    }

    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>> {
        self.answer(|state| state.activity_records(instance))
    }

    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>> {
        self.answer(|state| state.previews(execution, query))
    }

    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>> {
        self.answer(|state| state.message_previews(instance))
    }

    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>> {
        self.answer(|state| state.rows(instance))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        self.answer(|state: &mut State| {
            let mut delete = |n: usize, instance: &InstanceId| {
                state.delete(instance)?;
                audit.get(n).into_iter().for_each(|entry: &AuditEntry| state.record_action(entry.clone()));
                Ok(())
            };
            instances.iter().enumerate().map(|(n, instance)| delete(n, instance)).collect()
        })
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        Box::pin(async move { self.with(|state| state.prune(filter, before, batch)) })
    }

    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.answer(|state| entries.iter().for_each(|entry| state.record_action(entry.clone())))
    }

    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>> {
        Box::pin(async move { self.with(|state| state.audit(query, page)) })
    }

    fn prune_audit(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>> {
        self.answer(move |state| state.prune_audit(before, limit))
    }
}
