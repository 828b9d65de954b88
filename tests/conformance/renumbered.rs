//! A provider whose epochs are counted from 1, like those of the other providers, so that answers can be compared.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duroxide::InstanceId;
use duroxide::id::{Epoch, ExecutionId};
use duroxide::provider::*;
use futures_util::future::BoxFuture;

/// The inner provider, and its epochs in the order of the joins.
pub(crate) struct Renumbered<P> {
    inner: P,
    epochs: Mutex<Vec<Epoch>>,
}

impl<P> Renumbered<P> {
    pub(crate) fn new(inner: P) -> Self {
        Self { inner, epochs: Mutex::default() }
    }

    fn epochs(&self) -> Vec<Epoch> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the lease of the inner provider.
    fn inner_lease(&self, lease: Lease) -> Lease {
        Lease { epoch: self.inner_epoch(lease.epoch), ..lease }
    }

    fn inner_epoch(&self, outer: Epoch) -> Epoch {
        self.epochs()[usize::try_from(outer.0).expect("small") - 1]
    }

    fn outer(&self, inner: Epoch) -> Epoch {
        let position = self.epochs().iter().position(|epoch| *epoch == inner).expect("an epoch of a join");
        Epoch(position as u64 + 1)
    }

    fn placement(&self, placement: Placement) -> Placement {
        match placement {
            Placement::Owned { epoch, identity, number } => {
                Placement::Owned { epoch: self.outer(epoch), identity, number }
            }
            Placement::Queued | Placement::Refused => placement,
        }
    }

    fn committed(&self, committed: Committed) -> Committed {
        let child = |child: ChildPlacement| ChildPlacement {
            start: self.placement(child.start),
            answer: child.answer.map(|answer| self.placement(answer)),
        };
        Committed {
            repeated: committed.repeated,
            starts: committed.starts.into_iter().map(child).collect(),
            messages: committed.messages.into_iter().map(|placement| self.placement(placement)).collect(),
        }
    }

    fn submission(&self, mut submission: Submission) -> Submission {
        match &mut submission {
            Submission::Start(StartRequest { lease, .. }) | Submission::Send(SendRequest { lease, .. }) => {
                *lease = lease.map(|lease| self.inner_lease(lease));
            }
            Submission::Audited { submission: inner, .. } => **inner = self.submission((**inner).clone()),
            _ => (),
        }
        submission
    }

    fn record(&self, record: InstanceRecord) -> InstanceRecord {
        InstanceRecord { owner: record.owner.map(|owner| self.outer(owner)), ..record }
    }
}

impl<P: Provider> ProviderLayer for Renumbered<P> {
    fn inner(&self) -> &dyn Provider {
        &self.inner
    }

    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        Box::pin(async move {
            let lease = self.inner.join(node).await?;
            self.epochs.lock().unwrap_or_else(PoisonError::into_inner).push(lease.epoch);
            Ok(Lease { epoch: self.outer(lease.epoch), ..lease })
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        Box::pin(async move { self.inner.renew(&self.inner_lease(*lease), report).await })
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move { self.inner.leave(&self.inner_lease(*lease)).await })
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        Box::pin(async move { self.inner.acquire(&self.inner_lease(*lease), want).await })
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        Box::pin(async move {
            let results = self.inner.commit(&self.inner_lease(*lease), entries).await?;
            Ok(results.into_iter().map(|result| result.map(|committed| self.committed(committed))).collect())
        })
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        Box::pin(async move {
            let entries = entries.into_iter().map(|entry| self.submission(entry)).collect();
            let owner = |owner: Option<Epoch>| owner.map(|owner| self.outer(owner));
            let submitted = |done: Submitted| Submitted { owner: owner(done.owner), ..done };
            Ok(self.inner.submit(entries).await?.into_iter().map(|result| result.map(submitted)).collect())
        })
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        Box::pin(async move { Ok(self.inner.instance(instance).await?.map(|record| self.record(record))) })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin().map(|_| self as &dyn Admin)
    }
}

impl<P: Provider> Renumbered<P> {
    fn inner_admin(&self) -> &dyn Admin {
        self.inner.admin().expect("it has an Admin")
    }
}

impl<P: Provider> Admin for Renumbered<P> {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        Box::pin(async move {
            let node = filter.node.map(|node| self.inner_epoch(node));
            let page = self.inner_admin().list(&Filter { node, ..filter.clone() }, page).await?;
            let instances = page.instances.into_iter().map(|record| self.record(record)).collect();
            Ok(InstancePage { instances, ..page })
        })
    }

    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        time_limit: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>> {
        Box::pin(async move {
            let mut found = self.inner_admin().groups(of, filter, by, time_limit).await?;
            for (n, _) in by.iter().enumerate().filter(|(_, dimension)| **dimension == Dimension::Node) {
                for group in &mut found.groups {
                    let owner = group.key[n].take().map(|epoch| Epoch(epoch.parse().expect("an epoch")));
                    group.key[n] = owner.map(|owner| self.outer(owner).0.to_string());
                }
            }
            found.groups.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(found)
        })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        Box::pin(async move {
            let nodes = self.inner_admin().nodes().await?;
            Ok(nodes.into_iter().map(|node| NodeRecord { epoch: self.outer(node.epoch), ..node }).collect())
        })
    }

    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>> {
        Box::pin(async move {
            let mut departed = self.inner_admin().departed_nodes(limit).await?;
            departed.iter_mut().for_each(|departed| departed.node.epoch = self.outer(departed.node.epoch));
            Ok(departed)
        })
    }

    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>> {
        self.inner_admin().builds()
    }

    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>> {
        Box::pin(async move {
            let mut found = self.inner_admin().activities(instance).await?;
            if let Some(InstanceActivities { open, failed }) = &mut found {
                open.iter_mut().for_each(|activity| activity.owner = activity.owner.map(|owner| self.outer(owner)));
                failed.iter_mut().for_each(|attempt| attempt.node = self.outer(attempt.node));
            }
            Ok(found)
        })
    }

    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>> {
        self.inner_admin().events(execution, query)
    }

    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>> {
        self.inner_admin().messages(instance)
    }

    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>> {
        Box::pin(async move {
            let mut found = self.inner_admin().rows(instance).await?;
            if let Some(rows) = &mut found {
                rows.state.attempts.iter_mut().for_each(|attempt| attempt.node = self.outer(attempt.node));
            }
            Ok(found)
        })
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        self.inner_admin().delete(instances, audit)
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: duroxide::Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        self.inner_admin().prune(filter, before, batch)
    }

    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.inner_admin().record(entries)
    }

    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>> {
        self.inner_admin().audit(query, page)
    }

    fn prune_audit(&self, before: duroxide::Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>> {
        self.inner_admin().prune_audit(before, limit)
    }
}
