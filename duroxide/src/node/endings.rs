//! The requests to terminate that a node carries out from outside.

use crate::hash::HashSet;
use crate::id::MessageId;

/// The requests to terminate that this node carries out.
#[derive(Default)]
pub(super) struct Endings {
    under_way: HashSet<MessageId>,
    /// Requests that cannot be read. They stay until an operator removes them.
    unreadable: HashSet<MessageId>,
}

impl Endings {
    /// The most instances that are ended at once. The provider names the others again.
    const MAX: usize = 32;

    /// Returns true if a request is to be carried out now.
    pub(super) fn begin(&mut self, message: MessageId) -> bool {
        self.under_way.len() < Self::MAX && !self.unreadable.contains(&message) && self.under_way.insert(message)
    }

    /// Notes that a request was carried out, or cannot be.
    pub(super) fn end(&mut self, message: MessageId) {
        self.under_way.remove(&message);
    }

    /// Notes a request that cannot be read, so that it is not begun again.
    pub(super) fn skip(&mut self, message: MessageId) {
        self.unreadable.insert(message);
    }
}
