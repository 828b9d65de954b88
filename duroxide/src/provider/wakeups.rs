//! Signals within a process: what waits for work or for an instance sleeps until it is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::id::InstanceId;

/// The signals of one provider. Cheap to clone.
///
/// The provider *must* call [`work`](Wakeups::work) after a commit or a submission that leaves something for nodes other
/// than the one that made it (an instance or an activity without an owner; a message for an instance that another node of
/// this process owns), and whenever it learns that another process has changed something; and
/// [`changed`](Wakeups::changed) when an instance finishes, is suspended, resumed or deleted.
#[derive(Debug, Clone, Default)]
pub struct Wakeups(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    work: watch::Sender<u64>,
    /// A std mutex: held for a few instructions, never across an await.
    watched: Mutex<HashMap<InstanceId, watch::Sender<u64>>>,
}

impl Wakeups {
    /// Tells all nodes of this process that there may be work for them.
    pub fn work(&self) {
        self.0.work.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Follows [`work`](Wakeups::work). Signals from now on are seen, also those before the first wait.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }

    /// Tells who watches the instance that it has changed.
    pub fn changed(&self, instance: &InstanceId) {
        if let Some(watched) = self.watched().get(instance) {
            watched.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Tells everybody who watches an instance to look again: another process has changed something.
    pub fn all_changed(&self) {
        for watched in self.watched().values() {
            watched.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Whether anybody watches an instance.
    pub fn is_watched(&self) -> bool {
        !self.watched().is_empty()
    }

    /// Watches an instance. Changes from now on are seen, also those before the first wait.
    pub fn watch(&self, instance: &InstanceId) -> InstanceWatch {
        let receiver = match self.watched().entry(instance.clone()) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => entry.insert(watch::Sender::default()).subscribe(),
        };
        let seen = Arc::new(AtomicU64::new(*receiver.borrow()));
        InstanceWatch { receiver, seen, instance: instance.clone(), signals: self.clone() }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<InstanceId, watch::Sender<u64>>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the changes of one instance, from [`Wakeups::watch`] until it is dropped.
#[derive(Debug)]
pub struct InstanceWatch {
    receiver: watch::Receiver<u64>,
    /// The last signal that was waited for.
    seen: Arc<AtomicU64>,
    instance: InstanceId,
    signals: Wakeups,
}

impl InstanceWatch {
    /// Waits for the next change.
    ///
    /// # Cancel safety
    /// A change that is not waited for is seen by the next call.
    pub async fn changed(&mut self) {
        // The sender lives as long as this watch is registered, so there is no error to handle.
        let _ = self.receiver.changed().await;
        self.seen.store(*self.receiver.borrow(), Ordering::Release);
    }

    /// Tells whether all changes so far were waited for.
    pub fn settled(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let (receiver, seen) = (self.receiver.clone(), self.seen.clone());
        move || *receiver.borrow() == seen.load(Ordering::Acquire)
    }
}

impl Drop for InstanceWatch {
    fn drop(&mut self) {
        let mut watched = self.signals.watched();
        // Under the lock nobody can subscribe; this receiver still counts as one.
        if watched.get(&self.instance).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.instance);
        }
    }
}
