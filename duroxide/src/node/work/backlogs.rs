//! The live instances with many unread messages, to which other processes send.
//!
//! Mail that a request does not name is answered with all messages of the instance, also those that the node has: it may have
//! no live copy. So requests name these instances, each with the last message that its live copy has.

use std::collections::VecDeque;

use crate::id::InstanceId;

#[derive(Default)]
pub(super) struct Backlogs(VecDeque<Backlog>);

struct Backlog {
    instance: InstanceId,
    /// The answers in a row without a message for it.
    empty: u32,
}

impl Backlogs {
    /// The number of messages in an answer from which on an instance has a backlog.
    pub(super) const MESSAGES: usize = 64;
    /// The most instances that are named. The earliest are dropped.
    const MAX: usize = 64;
    /// The answers in a row without a message after which an instance is no longer named.
    const EMPTY: u32 = 16;

    pub(super) fn add(&mut self, instance: InstanceId) {
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(Backlog { instance, empty: 0 });
    }

    /// Returns the instances to be named: those that are still live.
    pub(super) fn named(&mut self, is_live: impl Fn(&InstanceId) -> bool) -> impl Iterator<Item = &InstanceId> {
        self.0.retain(|backlog| is_live(&backlog.instance));
        self.0.iter().map(|backlog| &backlog.instance)
    }

    /// Notes an answer about an instance, with this number of messages.
    pub(super) fn answered(&mut self, instance: &InstanceId, messages: usize) {
        if let Some(backlog) = self.0.iter_mut().find(|backlog| backlog.instance == *instance) {
            backlog.empty = if messages > 0 { 0 } else { backlog.empty + 1 };
            self.0.retain(|backlog| backlog.empty < Self::EMPTY);
        }
    }
}
