//! Eager starts: the first turn of an instance is run at once, and its commit creates the instance. A client that
//! stores the start first needs two commits; this way needs one.
//!
//! A [`Birth`] that is dropped without an answer makes its client store the start. This happens if the node does not
//! accept the start, if the first turn takes long or finds a fault, and if its commit fails, which is not repeated.
//! Both ways name the same start message, so they create the instance once.

use tokio::sync::oneshot;

use super::{Node, NodeHandle, Note};
use crate::provider::NewInstance;
use crate::runtime::slot::{Delivery, Slot};

/// An instance that is not stored yet, and whose client waits until it is.
pub(in crate::runtime) struct Birth {
    pub(super) new: Box<NewInstance>,
    /// Sent once the instance is stored.
    pub(super) stored: oneshot::Sender<()>,
}

impl NodeHandle {
    /// Starts an instance whose code the node has. Returns true once it is stored; on false, the caller stores the
    /// start.
    pub(crate) async fn start(&self, new: NewInstance) -> bool {
        let (stored, answer) = oneshot::channel();
        let Some(notes) = self.notes() else { return false };
        let sent = notes.send(Note::Start(Birth { new: Box::new(new), stored })).is_ok();
        // A waiting client must not keep the node alive.
        drop(notes);
        sent && answer.await.is_ok()
    }
}

impl Node {
    /// Begins the first turn of an instance that this turn creates, unless the node accepts no work or the id is live
    /// here.
    pub(super) fn start(&mut self, birth: Birth) {
        let instance = birth.new.instance.clone();
        if self.rejoining || self.draining.is_some() || self.slots.contains_key(&instance) {
            return;
        }
        let generation = self.next_generation();
        let (new, now) = (&birth.new, self.now());
        let mut slot = Slot::new(generation, new.first_execution(), new.name.clone(), new.version.clone());
        slot.deliver(Delivery::Message(new.start.clone()), now);
        slot.birth = Some(birth);
        self.insert(slot);
    }
}
