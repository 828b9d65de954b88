//! Instances that are started on the node itself: their first turn is made at once, and the commit of that turn creates
//! them. One commit, where a client that stores the start first needs two.
//!
//! Whatever does not go this way goes the other: a [`Birth`] that is dropped without an answer tells the client to store
//! the start by itself. So it is where the node cannot take it on, where the first turn takes long or finds a fault, and
//! where its commit fails, which is not tried again. Both ways name the same start message: doing both is doing it once.

use tokio::sync::oneshot;

use super::{Node, NodeHandle, Note};
use crate::provider::NewInstance;
use crate::runtime::slot::{Delivery, Slot};

/// An instance that is stored nowhere yet, and whose client waits until it is.
pub(in crate::runtime) struct Birth {
    pub(super) new: Box<NewInstance>,
    /// Told when it is stored.
    pub(super) stored: oneshot::Sender<()>,
}

impl NodeHandle {
    /// Starts an instance whose code the node has. Whether it is known to be stored.
    pub(crate) async fn start(&self, new: NewInstance) -> bool {
        let (stored, answer) = oneshot::channel();
        let Some(notes) = self.notes() else { return false };
        let sent = notes.send(Note::Start(Birth { new: Box::new(new), stored })).is_ok();
        // A client that waits does not keep the node alive.
        drop(notes);
        sent && answer.await.is_ok()
    }
}

impl Node {
    /// Begins the first turn of an instance that it creates, where nothing speaks against it.
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
