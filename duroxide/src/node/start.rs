//! Eager starts: the first turn of an instance is run at once, and its commit creates the instance. A client that
//! stores the start first needs two commits; this way needs one.
//!
//! A [`PendingStart`] that is dropped without an answer makes its client store the start. This happens if the node does
//! not accept the start, if the first turn takes long or finds a fault, and if its commit fails, which is not repeated.
//! Both ways name the same start message, so they create the instance once.

use super::Node;
use super::command::PendingStart;
use super::live::{Delivery, LiveInstance};

impl Node {
    /// Begins the first turn of an instance that this turn creates, unless the node accepts no work or the id is live
    /// here.
    pub(super) fn start(&mut self, start: PendingStart) {
        let instance = start.new.instance.clone();
        if self.rejoining || self.draining.is_some() || self.instances.contains_key(&instance) {
            return;
        }
        let generation = self.next_generation();
        let (new, now) = (&start.new, self.now());
        let mut live = LiveInstance::new(generation, new.first_execution(), new.name.clone(), new.version.clone());
        live.deliver(Delivery::Message(new.start.clone()), now);
        live.eager_start = Some(start);
        self.insert(live);
    }
}
