//! What a client in the same process knows of the node.

use std::sync::{Arc, Mutex, PoisonError};

use semver::Version;
use tokio::sync::{mpsc, oneshot};

use super::Note;
use crate::clock::{Clock, Hold};
use crate::id::{Epoch, InstanceId};
use crate::provider::{Lease, MessageRow, NewInstance, Submitted};
use crate::registry::Lookup;
use crate::runtime::StopSignal;

/// Hands over to the node, without a detour through the provider, what was stored for instances that it owns.
#[derive(Clone)]
pub(crate) struct NodeHandle {
    /// Weak, so that a client that lives on does not keep the node alive.
    notes: mpsc::WeakUnboundedSender<Note>,
    lookup: Arc<Lookup>,
    clock: Arc<dyn Clock>,
    /// A std mutex: held for a moment.
    lease: Arc<Mutex<Lease>>,
    stopped: StopSignal,
}

impl NodeHandle {
    pub(in crate::runtime) fn new(
        notes: &mpsc::UnboundedSender<Note>,
        lookup: Arc<Lookup>,
        clock: Arc<dyn Clock>,
        lease: Lease,
        stopped: StopSignal,
    ) -> Self {
        Self { notes: notes.downgrade(), lookup, clock, lease: Arc::new(Mutex::new(lease)), stopped }
    }

    /// The signal that the runtime has stopped.
    pub(crate) fn stop_signal(&self) -> &StopSignal {
        &self.stopped
    }

    pub(crate) fn lease(&self) -> Lease {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the node, while there is one.
    pub(super) fn notes(&self) -> Option<mpsc::UnboundedSender<Note>> {
        self.notes.upgrade()
    }

    pub(super) fn set_lease(&self, lease: Lease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    /// Whether the node has the code for an orchestration, and still takes on work.
    pub(crate) fn can_run(&self, name: &str, version: Option<&Version>) -> bool {
        self.lookup.orchestration(name, version).is_some() && self.notes().is_some_and(|n| !n.is_closed())
    }

    /// Hands over a message that was stored, if this node owns its instance.
    pub(crate) fn deliver(&self, submitted: Submitted, to: InstanceId, message: MessageRow, hold: Hold) {
        self.tell(submitted.owner, Note::Deliver(to, message, submitted, hold));
    }

    /// Hands over an instance that was created with this owner.
    pub(crate) fn create(&self, owner: Option<Epoch>, new: NewInstance, execution: u64, hold: Hold) {
        self.tell(owner, Note::Create(Box::new(new), execution, hold));
    }

    /// Resolves once the instance is not live on the node: at once where it is not, and not before its end is committed.
    pub(crate) fn gone(&self, instance: &InstanceId, hold: Hold) -> oneshot::Receiver<Hold> {
        let (sender, gone) = oneshot::channel();
        let follower = Follower { clock: self.clock.clone(), gone: Some(sender) };
        if let Some(notes) = self.notes() {
            let _ = notes.send(Note::Follow(instance.clone(), follower, hold));
        }
        gone
    }

    /// Tells the node to look for an instance, now and for a while: something that was asked for may have happened to it, or
    /// happen yet.
    pub(crate) fn uncertain(&self, instance: InstanceId) {
        if let Some(notes) = self.notes() {
            let _ = notes.send(Note::Uncertain(instance));
        }
    }

    /// Tells the node that an instance was ended or removed from outside, whoever owned it.
    pub(crate) fn ended(&self, instance: InstanceId) {
        if let Some(notes) = self.notes() {
            let _ = notes.send(Note::Ended(instance));
        }
    }

    fn tell(&self, owner: Option<Epoch>, note: Note) {
        if owner == Some(self.lease().epoch)
            && let Some(notes) = self.notes()
        {
            // A node that is gone has left what it owned to others, who find it in the storage.
            let _ = notes.send(note);
        }
    }
}

/// Somebody who wants to know for how long an instance is live here. Told when this is dropped.
pub(in crate::runtime) struct Follower {
    clock: Arc<dyn Clock>,
    gone: Option<oneshot::Sender<Hold>>,
}

impl Follower {
    /// Whether nobody listens any more.
    pub(in crate::runtime) fn is_gone(&self) -> bool {
        self.gone.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.take() {
            // Whoever followed may have gone as well.
            let _ = gone.send(self.clock.hold());
        }
    }
}
