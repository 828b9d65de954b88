//! Requests for work, and the answers to them.

use std::sync::Arc;

use semver::Version;

use super::{EventRow, HistoryPage, MessageRow};
use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::{ActivityId, EventId, ExecutionId, Identity, InstanceId};

/// An item with this many crashes is handed out alone: its node claims nothing else until the item has made progress, or
/// for a short time, since the item may be innocent.
pub const QUARANTINE: u32 = 3;

/// An item with this many crashes, the last of them while it was alone, is suspect. The limit is well above [`QUARANTINE`]:
/// in a program with little to do every item is alone, and a process that is killed a few times in the middle of one step
/// is no fault of that step.
pub const CRASH_LIMIT: u32 = 10;

/// A request for work.
#[derive(Debug, Clone)]
pub struct Want {
    /// The orchestrations that the node can run now. Only instances of these names and versions are handed out. An instance
    /// without a pinned version is handed out if no other member has a later version of the name. Items that the build of
    /// the node has rejected are left out; see [`Then::Suspend`](super::Then::Suspend).
    pub orchestrations: Arc<[(String, Version)]>,
    /// The most instances that the node can take.
    pub instances: usize,
    /// The activities that the node can take, by group.
    pub activities: Vec<ActivityGroup>,
    /// The tags that the node serves beside untagged activities. `None`: all.
    pub tags: Option<Arc<[String]>>,
    /// Owned instances that the node requests by name.
    pub load: Vec<Load>,
    /// True if the node may be given one item with [`QUARANTINE`] crashes or more, and nothing else that is new.
    pub alone: bool,
    /// The time by the clock of the node: it decides which items with a time of their own are due. An item without one is
    /// handed out at once, although the clock of its writer may be ahead.
    pub now: Timestamp,
    /// [`Acquired::claim`] of the last answer that the node has received under this lease; zero at first.
    ///
    /// The provider claims new items only if it has made no claim since that one, in the statement that claims. Otherwise
    /// the answer with that claim was lost: it hands out again the items of the claim that the lease still owns. So a
    /// request that is delayed or repeated never claims an item whose node is not informed.
    pub claim: u64,
    /// Instances with their highest message number that the node has: their mail up to there is acknowledged.
    pub heard: Vec<Heard>,
    /// Cancelled activities that the node has received.
    pub cancelled: Vec<ActivityId>,
}

/// The last message of an instance that a node has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The instance.
    pub instance: InstanceId,
    /// Its identity: a late request acknowledges nothing for a later instance with the id.
    pub identity: Identity,
    /// The number of the message.
    pub number: u64,
}

impl Heard {
    /// Returns true if the node has received the messages of this execution's instance up to this number.
    pub(crate) fn covers(&self, execution: &ExecutionId, number: u64) -> bool {
        self.number >= number && self.identity == execution.identity && self.instance == execution.instance
    }
}

/// An owned instance that a node requests by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The instance.
    pub instance: InstanceId,
    /// The highest message number up to which the node has everything: the answer holds the later messages, and no history.
    /// `None`: the node has no live copy; the answer holds all messages and the first page of history.
    pub heard: Option<u64>,
}

/// Activities of some names, with a limit for all of them together.
#[derive(Debug, Clone)]
pub struct ActivityGroup {
    /// The names.
    pub names: Arc<[String]>,
    /// The limit.
    pub limit: usize,
}

/// The answer to a request for work. The lease owns everything in it, durably.
#[derive(Debug, Clone, Default)]
pub struct Acquired {
    /// Instances, each of them once: newly claimed ones with messages that are due, oldest due first; those of
    /// [`Want::load`] that this lease still owns; and those with mail, see [`MessageRow::number`].
    pub instances: Vec<AcquiredInstance>,
    /// Newly claimed activities, oldest due first.
    pub activities: Vec<AcquiredActivity>,
    /// Activities of the lease whose outcome is no longer wanted. They are named until [`Want::cancelled`] acknowledges them.
    pub cancelled: Vec<ActivityId>,
    /// The time of the next request if no signal comes before: the earliest time at which an item without an owner that
    /// this node may have becomes due. A time in the past means that more work is available now. Kinds that were not
    /// requested are not considered.
    pub next_due: Option<Timestamp>,
    /// The number of the claim that this answer holds, or that of the request if nothing was claimed.
    pub claim: u64,
}

/// An instance that a node owns.
#[derive(Debug, Clone)]
pub struct AcquiredInstance {
    /// Its current execution.
    pub execution: ExecutionId,
    /// The name of its orchestration.
    pub name: String,
    /// The version that it is pinned to. `None` until its first turn is committed.
    pub version: Option<Version>,
    /// The last event of the current execution; zero if there is none.
    pub last_event: EventId,
    /// The highest number that was given to a message of the instance: `messages` holds every message up to there that is
    /// not consumed (and, for [`Load::heard`], that has a higher number).
    pub arrivals: u64,
    /// Its messages, also those that are due later, in the order of delivery.
    pub messages: Vec<MessageRow>,
    /// The first page of its history, for a claimed instance and for [`Load::heard`] = `None`. Otherwise it is empty although
    /// there is more: a node without a live copy reads on.
    pub history: HistoryPage,
    /// The claim by which the lease owns it; zero if it was created for the lease.
    pub claim: u64,
    /// The number of owners that died with it in flight since it last made progress.
    pub crashes: u32,
    /// True if an owner died while it had nothing else, after [`CRASH_LIMIT`] crashes: the instance is to be suspended.
    pub suspect: bool,
}

/// An activity that a node owns.
#[derive(Debug, Clone)]
pub struct AcquiredActivity {
    /// The activity.
    pub id: ActivityId,
    /// The attempt that is to be made, from 1.
    pub attempt: u32,
    /// The claim by which the lease owns it; zero if it was created for the lease.
    pub claim: u64,
    /// The number of owners that died with it in flight.
    pub crashes: u32,
    /// True if an owner died while it had nothing else, after [`CRASH_LIMIT`] crashes: the activity is to be parked.
    pub suspect: bool,
    /// The event that scheduled it, with the name, the options and the input.
    pub scheduled: EventRow,
    /// Headers from the orchestration.
    pub headers: TextMap,
}
