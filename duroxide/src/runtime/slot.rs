//! An instance that is live on this node: its copy in memory, and what waits for its next turn.

use std::collections::HashSet;

use semver::Version;

use super::node::{Birth, Follower};
use super::places::Place;
use crate::history::Input;
use crate::id::{ActivityId, CallId, EventId, ExecutionId, MessageId};
use crate::payload::Payload;
use crate::provider::{AcquiredInstance, MessageRow};
use crate::replay::Execution;

/// An instance that is live here.
pub(super) struct Slot {
    /// Tells this life of the instance from others, so that answers to an earlier one are recognised.
    pub(super) generation: u64,
    pub(super) execution: ExecutionId,
    pub(super) name: String,
    /// The version that it is pinned to. `None`: not yet.
    pub(super) version: Option<Version>,
    /// The last event that is committed.
    pub(super) committed: EventId,
    pub(super) state: SlotState,
    /// What waits for the next turn.
    inbox: Vec<Delivery>,
    /// Messages that are in the inbox, or in the turn that runs.
    known: HashSet<MessageId>,
    /// The instance that its first turn will create. `None`: it is stored.
    pub(super) birth: Option<Birth>,
    /// Those who want to know for how long it is live.
    followers: Vec<Follower>,
    /// When it was last used, in ticks of the node.
    pub(super) used: u64,
}

pub(super) enum SlotState {
    /// It waits; its live copy is there.
    Idle(Box<Execution>),
    /// It has no live copy: the first turn makes one.
    Cold,
    /// Its history is being read.
    Loading,
    /// A turn runs, or its commit is on the way.
    Busy,
}

/// Something that the next turn delivers.
#[derive(Debug)]
pub(super) enum Delivery {
    /// A stored message.
    Message(MessageRow),
    /// The outcome of an activity that ran here, which is stored nowhere yet.
    Outcome(LocalOutcome),
}

impl Delivery {
    /// What was delivered is on its way to the storage.
    pub(super) fn give_up_place(&mut self) {
        if let Self::Outcome(outcome) = self {
            outcome.place = None;
        }
    }

    fn is_start(&self) -> bool {
        matches!(self, Self::Message(message) if message.lane == crate::message::Lane::Start)
    }
}

/// The outcome of an activity that ran on this node.
#[derive(Debug)]
pub(super) struct LocalOutcome {
    pub(super) activity: ActivityId,
    pub(super) attempt: u32,
    pub(super) input: Input,
    pub(super) payload: Payload,
    /// Its place, until it is on its way to the storage. `None`: its thread is still busy, or it is on its way.
    pub(super) place: Option<Place>,
}

impl LocalOutcome {
    pub(super) fn call(&self) -> CallId {
        self.activity.call
    }
}

impl Slot {
    /// An instance that this node has been given.
    pub(super) fn acquired(generation: u64, acquired: AcquiredInstance) -> Self {
        let mut slot = Self::new(generation, acquired.execution, acquired.name, acquired.version);
        slot.committed = acquired.last_event;
        slot.state = if acquired.last_event == EventId(0) { SlotState::Cold } else { SlotState::Loading };
        for message in acquired.messages {
            slot.deliver(Delivery::Message(message));
        }
        slot
    }

    /// Whether it is what is stored of an instance.
    pub(super) fn is_of(&self, acquired: &AcquiredInstance) -> bool {
        self.execution == acquired.execution && self.committed == acquired.last_event && self.name == acquired.name
    }

    /// An instance without history.
    pub(super) fn new(generation: u64, execution: ExecutionId, name: String, version: Option<Version>) -> Self {
        Self {
            generation,
            execution,
            name,
            version,
            committed: EventId(0),
            state: SlotState::Cold,
            inbox: Vec::new(),
            known: HashSet::new(),
            birth: None,
            followers: Vec::new(),
            used: 0,
        }
    }

    /// Adds something for the next turn, unless it is known already.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let known = matches!(&delivery, Delivery::Message(message) if !self.known.insert(message.id));
        if !known {
            self.inbox.push(delivery);
        }
    }

    /// Adds somebody who wants to know for how long it is live.
    pub(super) fn follow(&mut self, follower: Follower) {
        // Those who have gone are forgotten as often as the list would grow, so that asking again and again costs nothing.
        if self.followers.len() == self.followers.capacity() {
            self.followers.retain(|follower| !follower.is_gone());
        }
        self.followers.push(follower);
    }

    /// Takes over from an execution that goes on as this one.
    pub(super) fn continues(&mut self, old: &mut Self) {
        self.followers = std::mem::take(&mut old.followers);
    }

    /// Whether a message is in the inbox, or in the turn that runs.
    pub(super) fn knows(&self, message: MessageId) -> bool {
        self.known.contains(&message)
    }

    /// Whether something has come since the last turn.
    pub(super) fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Puts back what a turn has not read.
    pub(super) fn put_back(&mut self, mut left: Vec<Delivery>) {
        left.append(&mut self.inbox);
        self.inbox = left;
    }

    /// Forgets the outcome of an activity that nobody waits for any more.
    pub(super) fn discard_outcome(&mut self, id: &ActivityId) {
        self.inbox.retain(|delivery| !matches!(delivery, Delivery::Outcome(outcome) if outcome.activity == *id));
    }

    /// Whether a turn should be made now. Before its start has arrived, a new execution only collects.
    pub(super) fn is_ready(&self) -> bool {
        match self.state {
            SlotState::Idle(_) => !self.inbox.is_empty(),
            SlotState::Cold => self.inbox.iter().any(Delivery::is_start),
            SlotState::Loading | SlotState::Busy => false,
        }
    }

    /// Takes what waits, in the order of delivery: lane by lane, else as it came.
    pub(super) fn take_inbox(&mut self) -> Vec<Delivery> {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.sort_by_key(|delivery| match delivery {
            Delivery::Message(message) => message.lane,
            Delivery::Outcome(_) => crate::message::Lane::Normal,
        });
        inbox
    }

    /// Forgets messages that a committed turn has read.
    pub(super) fn forget<'a>(&mut self, consumed: impl Iterator<Item = &'a MessageId>) {
        for id in consumed {
            self.known.remove(id);
        }
    }
}
