//! The handle by which clients of the same process reach the node.

use std::sync::{Arc, Mutex, PoisonError};

use semver::Version;
use tokio::sync::{mpsc, oneshot};

use super::Note;
use crate::clock::Clock;
use crate::clock::virtual_time::ClockHold;
use crate::id::{Epoch, InstanceId};
use crate::provider::{Lease, MessageRow, NewInstance, Submitted};
use crate::registry::Lookup;
use crate::runtime::StopSignal;

/// Forwards stored messages and new instances to the node that owns them, without a request to the provider.
#[derive(Clone)]
pub(crate) struct NodeHandle {
    /// Weak, so that a client does not keep the node alive.
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

    /// Returns the sender of notes, unless the node has ended.
    pub(super) fn notes(&self) -> Option<mpsc::UnboundedSender<Note>> {
        self.notes.upgrade()
    }

    pub(super) fn set_lease(&self, lease: Lease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    /// Returns true if the node has the code for an orchestration and accepts notes.
    pub(crate) fn can_run(&self, name: &str, version: Option<&Version>) -> bool {
        self.lookup.orchestration(name, version).is_some() && self.notes().is_some_and(|n| !n.is_closed())
    }

    /// Forwards a message that was stored, if this node owns its instance.
    pub(crate) fn deliver(&self, submitted: Submitted, to: InstanceId, message: MessageRow) {
        self.send_if_owner(submitted.owner, Note::Deliver(to, message, submitted, self.clock.hold()));
    }

    /// Forwards an instance that was created, if this node owns it.
    pub(crate) fn create(&self, submitted: Submitted, new: NewInstance) {
        self.send_if_owner(submitted.owner, Note::Create(Box::new(new), submitted, self.clock.hold()));
    }

    /// Returns a receiver that resolves once the instance is not live on the node: at once if it is not live, and not
    /// before its end is committed.
    pub(crate) fn gone(&self, instance: &InstanceId) -> oneshot::Receiver<ClockHold> {
        let (sender, gone) = oneshot::channel();
        let follower = Follower { clock: self.clock.clone(), gone: Some(sender) };
        if let Some(notes) = self.notes() {
            let _ = notes.send(Note::Follow(instance.clone(), follower, self.clock.hold()));
        }
        gone
    }

    /// Makes the node recheck an instance, because the outcome of a request for it is unknown.
    pub(crate) fn uncertain(&self, instance: InstanceId) {
        if let Some(notes) = self.notes() {
            let _ = notes.send(Note::Uncertain(instance));
        }
    }

    /// Makes the node drop its live copy of an instance that was ended or removed from outside.
    pub(crate) fn ended(&self, instance: InstanceId) {
        if let Some(notes) = self.notes() {
            let _ = notes.send(Note::Ended(instance));
        }
    }

    fn send_if_owner(&self, owner: Option<Epoch>, note: Note) {
        if owner == Some(self.lease().epoch)
            && let Some(notes) = self.notes()
        {
            // If the node has ended, other nodes find the item in the storage.
            let _ = notes.send(note);
        }
    }
}

/// A client that waits until an instance is no longer live here. Resolves its receiver on drop.
pub(in crate::runtime) struct Follower {
    clock: Arc<dyn Clock>,
    gone: Option<oneshot::Sender<ClockHold>>,
}

impl Follower {
    /// Returns true if the client has stopped waiting.
    pub(in crate::runtime) fn is_gone(&self) -> bool {
        self.gone.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.take() {
            // The client may have stopped waiting.
            let _ = gone.send(self.clock.hold());
        }
    }
}
