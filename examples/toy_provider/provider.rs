//! The provider: each call is one transaction on the rows, followed by its signals.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use duroxide::id::{ActivityId, Epoch, EventId, ExecutionId, InstanceId};
use duroxide::provider::*;
use futures_util::future::BoxFuture;

use crate::members::serves;
use crate::rows::{Instance, Rows};

/// Keeps its rows in memory. Clones share them, like the processes of a database.
#[derive(Clone, Default)]
pub(crate) struct ToyProvider {
    /// Held for one call, never across an await.
    rows: Arc<Mutex<Rows>>,
    wakeups: Wakeups,
}

/// Work that is left for nodes. What a transaction adds to it is signalled.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Left<'a> {
    Instance(&'a InstanceId, Ready),
    Activity(&'a ActivityId, Ready),
    Ending(&'a InstanceId, i64),
    Mail(Epoch, &'a InstanceId, u64),
    Cancelled(Epoch, &'a ActivityId),
}

impl ToyProvider {
    /// Marks a node as dead, as if its process had been killed: the next call of any node takes over its items.
    #[cfg(test)]
    pub(crate) fn kill(&self, epoch: Epoch) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.nodes.get_mut(&epoch).into_iter().for_each(|node| node.dead = true);
    }

    fn transaction<'a, T: Send>(
        &'a self,
        operation: impl FnOnce(&mut Rows) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, ProviderError>> {
        Box::pin(async move {
            let (result, signals) = {
                let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
                let before = rows.clone();
                let result = operation(&mut rows);
                (result, signals(&before, &rows))
            };
            self.wakeups.tell(signals);
            Ok(result)
        })
    }
}

impl Provider for ToyProvider {
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        self.transaction(|rows| rows.join(node))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        self.transaction(|rows| rows.renew(lease, report))
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.transaction(|rows| rows.leave(lease))
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        self.transaction(move |rows| rows.acquire(lease, &want))
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        self.transaction(move |rows| {
            rows.take_over_dead();
            entries.into_iter().map(|entry| rows.commit(lease, Arc::unwrap_or_clone(entry))).collect()
        })
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        self.transaction(move |rows| entries.into_iter().map(|entry| rows.submit(entry)).collect())
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        self.transaction(move |rows| rows.history(execution, after))
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.transaction(|rows| rows.record(instance))
    }

    fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }
}

/// Returns the signals of a transaction, by the difference of the rows.
fn signals(before: &Rows, after: &Rows) -> Signals {
    let mut signals = Signals::default();
    let left = before.left();
    signals.work = after.left().iter().any(|work| !left.contains(work));
    for (id, instance) in &after.instances {
        let earlier = before.instances.get(id).filter(|earlier| earlier.start == instance.start);
        match instance.finished {
            Some((status, _)) if earlier.is_none_or(|earlier| earlier.finished.is_none()) => {
                signals.finished(&instance.execution, status, after.last_row(instance));
            }
            _ if earlier.is_some_and(|earlier| before.shown(id, earlier) != after.shown(id, instance)) => {
                signals.changed(id);
            }
            _ => {}
        }
    }
    let removed = before
        .instances
        .iter()
        .filter(|(id, instance)| after.instances.get(*id).is_none_or(|later| later.start != instance.start));
    removed.for_each(|(id, _)| signals.changed(id));
    signals
}

impl Rows {
    fn left(&self) -> BTreeSet<Left<'_>> {
        let instances = self.instances.keys().filter_map(|id| Some(Left::Instance(id, self.ready(id)?)));
        let free = self.activities.iter().filter(|(_, activity)| activity.tenancy.is_free());
        let activities = free.map(|(id, activity)| Left::Activity(id, activity.ready));
        let ends = self.messages.iter().filter(|stored| {
            let instance = self.instances.get(&stored.to);
            stored.row.lane == Lane::End && instance.is_some_and(|instance| instance.tenancy.owner.is_none())
        });
        let ends = ends.map(|stored| Left::Ending(&stored.to, stored.arrival));
        let notes = self.nodes.iter().flat_map(|(epoch, node)| {
            let mail = node.mail.iter().map(|(id, upto)| Left::Mail(*epoch, id, *upto));
            mail.chain(node.cancelled.iter().map(|id| Left::Cancelled(*epoch, id)))
        });
        instances.chain(activities).chain(ends).chain(notes).collect()
    }

    fn last_row(&self, instance: &Instance) -> Option<&EventRow> {
        self.events.get(&instance.execution)?.last()
    }

    /// Returns the status that is shown, and its reason: an instance with a parked activity is shown as suspended.
    fn shown<'a>(&'a self, id: &InstanceId, instance: &'a Instance) -> (InstanceStatus, Option<&'a String>) {
        let mut parked = self.activities.iter().filter(|(of, a)| of.execution.instance == *id && a.tenancy.set_aside);
        match instance.status() {
            InstanceStatus::Running => match parked.next() {
                Some((_, activity)) => (InstanceStatus::Suspended, activity.tenancy.rejected.as_ref()),
                None => (InstanceStatus::Running, None),
            },
            InstanceStatus::Suspended => {
                let paused = instance.paused.as_ref().map(|(reason, _)| reason);
                (InstanceStatus::Suspended, paused.or(instance.tenancy.rejected.as_ref()))
            }
            finished => (finished, None),
        }
    }

    fn record(&self, id: &InstanceId) -> Option<InstanceRecord> {
        let instance = self.instances.get(id)?;
        let (status, suspension) = self.shown(id, instance);
        Some(InstanceRecord {
            execution: instance.execution.clone(),
            name: instance.name.clone(),
            version: instance.version.clone(),
            status,
            labels: instance.labels.clone(),
            parent: instance.parent.clone(),
            created_at: instance.created_at,
            updated_at: instance.updated_at,
            finished_at: instance.finished.map(|(_, at)| at),
            last_event: self.last_event(&instance.execution),
            outcome: instance.finished.and_then(|_| self.last_row(instance).cloned()),
            suspension: suspension.cloned(),
            // This provider has no `Admin`, which shows them.
            cause: None,
            waits: None,
            owner: instance.tenancy.owner,
            unclaimed: self.unclaimed(id, instance),
            damaged: None,
        })
    }

    /// Returns the work of an instance that no live node can claim.
    fn unclaimed(&self, id: &InstanceId, instance: &Instance) -> Option<Unclaimed> {
        let handlers = || self.nodes.values().filter(|node| !node.dead).map(|node| &node.info.handlers);
        let due = |ready: Ready| Some(ready.since(self.latest)).filter(|since| *since <= self.latest);
        let has_code = |handlers: &Handlers| {
            let mut code = handlers.orchestrations.iter().filter(|(name, _)| *name == instance.name);
            code.any(|(_, version)| instance.version.as_ref().is_none_or(|pinned| pinned == version))
        };
        let itself = self.ready(id).and_then(due).filter(|_| !handlers().any(has_code)).map(|since| {
            let version = instance.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            Unclaimed { what: format!("orchestration {}{version}", instance.name), since }
        });
        let waiting = self.activities.iter().filter(|(of, a)| of.execution.instance == *id && a.tenancy.is_free());
        let activities = waiting.filter_map(|(_, activity)| {
            let NewActivity { name, tag, .. } = &activity.new;
            let serves = |h: &Handlers| h.activities.contains(name) && serves(h.tags.as_deref(), tag.as_ref());
            let since = due(activity.ready).filter(|_| !handlers().any(serves))?;
            let tag = tag.as_ref().map(|tag| format!(" with tag {tag}")).unwrap_or_default();
            Some(Unclaimed { what: format!("activity {name}{tag}"), since })
        });
        itself.into_iter().chain(activities).min_by_key(|unclaimed| unclaimed.since)
    }
}
