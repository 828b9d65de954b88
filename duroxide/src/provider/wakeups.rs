//! Signals within a process, for nodes that wait for work and for clients that wait for an instance.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{EventRow, InstanceStatus};
use crate::clock::virtual_time::{Participant, WaitFailure};
use crate::hash::HashMap;
use crate::id::{ExecutionId, Identity, InstanceId};

/// The signals of one provider. Cheap to clone.
///
/// The provider *must* call [`work`](Wakeups::work) after a commit or a submission that leaves work for nodes other
/// than its sender (an instance or an activity without an owner; a message for an instance that another node of this
/// process owns), and whenever it detects a write of another process. It *must* call [`changed`](Wakeups::changed) when
/// an instance finishes or is suspended, resumed or deleted.
#[derive(Debug, Clone, Default)]
pub struct Wakeups(Arc<Watches>);

#[derive(Debug, Default)]
struct Watches {
    work: watch::Sender<u64>,
    /// A std mutex: held for a few instructions, never across an await.
    watched: Mutex<HashMap<InstanceId, watch::Sender<Change>>>,
}

/// The watches that receive a change, and the change.
type Sent = (watch::Sender<Change>, Option<Finished>);

/// The last change of an instance: its end, if the provider has sent it.
type Change = Option<Arc<Finished>>;

/// The end of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The instance: a later one may have the same id.
    pub identity: Identity,
    /// The final status.
    pub status: InstanceStatus,
    /// The last event of its history, which holds the outcome. `None`: the event is missing.
    pub outcome: Option<EventRow>,
}

/// The signals of a transaction, to be sent once it is durable; see [`Wakeups::tell`].
#[derive(Debug, Default)]
pub struct Signals {
    /// See [`Wakeups::work`].
    pub work: bool,
    changed: Vec<(InstanceId, Option<Finished>)>,
}

impl Signals {
    /// See [`Wakeups::changed`].
    pub fn changed(&mut self, instance: &InstanceId) {
        self.changed.push((instance.clone(), None));
    }

    /// See [`Wakeups::finished`].
    pub fn finished(&mut self, execution: &ExecutionId, status: InstanceStatus, outcome: Option<&EventRow>) {
        let finished = Finished { identity: execution.identity, status, outcome: outcome.cloned() };
        self.changed.push((execution.instance.clone(), Some(finished)));
    }

    /// Returns the instances that have changed.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceId> {
        self.changed.iter().map(|(instance, _)| instance)
    }

    /// Returns true if there are no signals.
    pub fn is_empty(&self) -> bool {
        !self.work && self.changed.is_empty()
    }
}

impl Wakeups {
    /// Sends the signals of a transaction.
    pub fn tell(&self, signals: Signals) {
        if signals.work {
            self.work();
        }
        self.send(|watched| {
            let changed = signals.changed.into_iter();
            changed.filter_map(|(instance, finished)| Some((watched.get(&instance)?.clone(), finished))).collect()
        });
    }

    /// Signals to all nodes of this process that there may be work for them.
    pub fn work(&self) {
        self.0.work.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Subscribes to [`work`](Wakeups::work). Signals from now on are received, including those before the first wait.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }

    /// Signals to the watches of an instance that it has changed.
    pub fn changed(&self, instance: &InstanceId) {
        self.change(instance, None);
    }

    /// Signals to the watches of an instance that it has finished. They receive the outcome and need not read it.
    pub fn finished(&self, instance: &InstanceId, finished: Finished) {
        self.change(instance, Some(finished));
    }

    fn change(&self, instance: &InstanceId, finished: Option<Finished>) {
        self.send(|watched| watched.get(instance).map(|sender| (sender.clone(), finished)).into_iter().collect());
    }

    /// Signals a change to the watches of all instances for which `concerns` returns true, since another process may
    /// have changed them.
    pub fn changed_where(&self, concerns: impl Fn(&InstanceId) -> bool) {
        self.send(|watched| {
            let watched = watched.iter().filter(|(instance, _)| concerns(instance));
            watched.map(|(_, sender)| (sender.clone(), None)).collect()
        });
    }

    /// Sends changes to the watches that `find` selects. They are sent without the lock, since a client that is woken
    /// needs the lock to end its watch.
    fn send(&self, find: impl FnOnce(&HashMap<InstanceId, watch::Sender<Change>>) -> Vec<Sent>) {
        let sent = find(&self.watched());
        for (sender, finished) in sent {
            sender.send_replace(finished.map(Arc::new));
        }
    }

    /// Returns the watched instances for which `concerns` returns true. A provider that learns of their changes in another
    /// process may read them in one request, and signal their ends by [`finished`](Wakeups::finished).
    ///
    /// ```
    /// use duroxide::id::InstanceId;
    /// use duroxide::provider::Wakeups;
    ///
    /// let (signals, order) = (Wakeups::default(), InstanceId::new("order-17").expect("a good id"));
    /// let watch = signals.watch(&order);
    /// assert_eq!(signals.watched_where(|id| id.as_str().starts_with("order-")), [order]);
    /// drop(watch);
    /// assert!(!signals.is_watched());
    /// ```
    pub fn watched_where(&self, concerns: impl Fn(&InstanceId) -> bool) -> Vec<InstanceId> {
        self.watched().keys().filter(|instance| concerns(instance)).cloned().collect()
    }

    /// Returns true if any instance is watched.
    pub fn is_watched(&self) -> bool {
        !self.watched().is_empty()
    }

    /// Watches an instance. Changes from now on are received, including those before the first wait.
    pub fn watch(&self, instance: &InstanceId) -> InstanceWatch {
        let receiver = match self.watched().entry(instance.clone()) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => entry.insert(watch::Sender::default()).subscribe(),
        };
        InstanceWatch { receiver, instance: instance.clone(), signals: self.clone() }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<InstanceId, watch::Sender<Change>>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the changes of one instance, from [`Wakeups::watch`] until it is dropped.
#[derive(Debug)]
pub struct InstanceWatch {
    receiver: watch::Receiver<Change>,
    instance: InstanceId,
    signals: Wakeups,
}

impl InstanceWatch {
    /// Waits for the next change. Returns the end of the instance if the provider has sent it. Of several changes
    /// between two calls, the last one is returned.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call receives the change.
    pub async fn changed(&mut self) -> Option<Arc<Finished>> {
        // The sender exists as long as this watch is registered, so this cannot fail.
        let _ = self.receiver.changed().await;
        self.receiver.borrow().clone()
    }

    /// Returns the client that follows the instance, for a virtual clock. It is settled until the next change that
    /// [`changed`](InstanceWatch::changed) has not returned yet. The second value is the failure of its wait.
    pub(crate) fn participant(&self) -> (Participant, WaitFailure) {
        Participant::client(self.receiver.clone())
    }
}

impl Drop for InstanceWatch {
    fn drop(&mut self) {
        let mut watched = self.signals.watched();
        // The lock keeps out new watches. This receiver is still counted, so one means that it is the last.
        if watched.get(&self.instance).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.instance);
        }
    }
}
