//! Requests for work, and the answers to them.

use std::sync::Arc;

use semver::Version;

use super::{EventRow, HistoryPage, MessageRow};
use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::{ActivityId, EventId, ExecutionId, Identity, InstanceId};

/// An item with this many crashes is claimed alone: its node claims nothing else until the item has made progress, but only
/// for a short time, since the item may not be the cause.
pub const QUARANTINE: u32 = 3;

/// An item with this many crashes, the last of them while it was alone, is suspect. The limit is well above [`QUARANTINE`]:
/// in a program with little to do every item is alone, and a process that is killed a few times during one step does not
/// show that the step is at fault.
pub const CRASH_LIMIT: u32 = 10;

/// A request for work.
#[derive(Debug, Clone)]
pub struct Want {
    /// The orchestrations that the node can run now. Only instances of these names and versions are claimed. An instance
    /// without a pinned version is claimed if no other member has a later version of the name. Items that the build of
    /// the node has rejected are left out; see [`Then::Suspend`](super::Then::Suspend).
    pub orchestrations: Arc<[(String, Version)]>,
    /// The maximum number of instances to claim.
    pub instances: usize,
    /// The activities to claim, by group.
    pub activities: Vec<ActivityGroup>,
    /// The tags that the node serves beside untagged activities. `None`: all.
    pub tags: Option<Arc<[String]>>,
    /// Owned instances that the node requests by name.
    pub load: Vec<Load>,
    /// True if the claim may be a single item with [`QUARANTINE`] crashes or more, and nothing else.
    pub alone: bool,
    /// The time by the clock of the node: it decides which items with a time of their own are due. An item without such a
    /// time may be claimed at once, although the clock of its writer may be ahead.
    pub now: Timestamp,
    /// [`Acquired::claim`] of the last answer that the node has received under this lease; zero at first.
    ///
    /// The provider claims new items only if this is the last claim of the lease; the statement that claims checks it.
    /// Otherwise the answer with the last claim was lost, and the provider returns the items of that claim which the lease
    /// still owns. So a delayed or repeated request never claims an item that its node does not learn of.
    pub claim: u64,
    /// Instances with the highest message number that the node has received: acknowledges their mail up to that number.
    pub heard: Vec<Heard>,
    /// Cancelled activities that the node has received.
    pub cancelled: Vec<ActivityId>,
    /// Activities that are due although their time is later than `now`, if they have no owner and are among the requested
    /// kinds: the node has put them back, and its clock was set back during the pause. Claimed before others. Usually
    /// empty. A provider that ignores them delays them until their time.
    pub overdue: Vec<ActivityId>,
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

#[cfg(feature = "sqlite")]
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

/// The names of some activities, with a limit for all of them together.
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
    /// Instances to be terminated that have no owner, whether they are running or suspended, each with its oldest message
    /// of [`Lane::End`](crate::message::Lane::End). Nothing is claimed: each node receives all of them, regardless of its
    /// code, until the instance has ended or the message is removed. Ending an instance twice has no effect.
    pub ending: Vec<Ending>,
    /// The time of the next request if no signal comes before: the earliest time at which an item becomes due that has no
    /// owner and that this node can run, including an item in quarantine if [`Want::alone`] is set. A time in the past means that more work is available now. Kinds that were not
    /// requested are not considered.
    pub next_due: Option<Timestamp>,
    /// The number of the claim that this answer holds, or that of the request if nothing was claimed.
    pub claim: u64,
}

/// An instance to be terminated.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Its current execution.
    pub execution: ExecutionId,
    /// The request to terminate it.
    pub message: MessageRow,
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
    /// The highest number of a message of the instance: `messages` holds every message up to that number that is not
    /// consumed (for a request with [`Load::heard`]: and that has a higher number than it).
    pub arrivals: u64,
    /// Its messages, including those that are due later, in the order of delivery.
    pub messages: Vec<MessageRow>,
    /// The first page of its history. Present for a claimed instance or when [`Load::heard`] is `None`; otherwise empty, with
    /// `more` set: a node without a live copy reads the history.
    pub history: HistoryPage,
    /// The claim by which the lease owns it; zero if it was created for the lease.
    pub claim: u64,
    /// The number of owners that died with it in flight since it last made progress.
    pub crashes: u32,
    /// True after [`CRASH_LIMIT`] crashes, if the last owner that died had claimed it alone: the node suspends it.
    pub suspect: bool,
}

/// An activity that a node owns.
#[derive(Debug, Clone)]
pub struct AcquiredActivity {
    /// The activity.
    pub id: ActivityId,
    /// The number of the next attempt, from 1.
    pub attempt: u32,
    /// The claim by which the lease owns it; zero if it was created for the lease.
    pub claim: u64,
    /// The number of owners that died with it in flight.
    pub crashes: u32,
    /// True after [`CRASH_LIMIT`] crashes, if the last owner that died had claimed it alone: the node parks it.
    pub suspect: bool,
    /// The event that scheduled it, with the name, the options and the input.
    pub scheduled: EventRow,
    /// Headers from the orchestration.
    pub headers: TextMap,
}
