//! Writes of nodes, and the answers to them.

use semver::Version;

use super::{EventRow, FailedAttempt, InstanceStatus, MessageRow, NewInstance};
use crate::clock::Timestamp;
use crate::history::{TextMap, Waits};
use crate::id::{ActivityId, CallId, CommitId, Epoch, EventId, ExecutionId, Identity, InstanceId, MessageId};

/// One atomic write of a node.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its id. The provider keeps the id of the last turn of each instance, so that a repeated turn is answered as
    /// done. The ids of other writes need not be kept: such a write names the claim and the attempt that it ends, which
    /// no later owner has.
    pub id: CommitId,
    /// The write.
    pub write: Write,
}

/// The tenure of an activity: an attempt that a lease owns by a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// The activity.
    pub activity: ActivityId,
    /// The attempt.
    pub attempt: u32,
    /// The claim; see [`AcquiredActivity::claim`](super::AcquiredActivity::claim).
    pub claim: u64,
}

/// A write of a node.
#[derive(Debug, Clone)]
pub enum Write {
    /// A turn of an instance that the lease owns.
    Turn(Box<Turn>),
    /// An attempt of an activity has ended, and its instance is not live on the node: the activity is removed, and the
    /// message goes to the instance if its execution is still the current one.
    Outcome {
        /// The attempt.
        tenure: Tenure,
        /// The message to the instance.
        message: MessageRow,
    },
    /// An attempt of an activity has failed and will be repeated: the activity returns to the queue.
    Retry {
        /// The attempt.
        tenure: Tenure,
        /// When the next attempt may begin.
        visible_at: Timestamp,
        /// The failed attempt, which is recorded with the node of the lease ([`Admin::activities`](super::Admin::activities)).
        /// A provider without an [`Admin`](super::Admin) may drop it.
        failed: Box<FailedAttempt>,
        /// The cause of the failure, as in [`Turn::cause`]. The activity keeps it until it ends, or a later failure replaces
        /// it, and shows it unless it is parked.
        cause: Option<String>,
    },
    /// No node of this build can run the activity: the build rejects it. Its crashes are reset. As long as a
    /// member can try it (a member with its name, its tag, and a build that has not rejected it), it waits for such a
    /// member; otherwise it is parked, and its instance shows the reason.
    Park {
        /// The attempt.
        tenure: Tenure,
        /// The reason, as JSON.
        reason: String,
        /// The cause, as in [`Turn::cause`]. The activity keeps it until it is resumed by a client, or a later rejection
        /// replaces it, and shows it while it is parked.
        cause: Option<String>,
    },
    /// The lease releases an activity that it has not begun.
    ReleaseActivity {
        /// The attempt.
        tenure: Tenure,
    },
    /// The lease releases an instance whose live copy its node has dropped.
    ReleaseInstance {
        /// The instance, by any of its executions.
        execution: ExecutionId,
        /// The claim; see [`AcquiredInstance::claim`](super::AcquiredInstance::claim).
        claim: u64,
    },
}

impl Write {
    /// Returns the instance that this write concerns.
    pub fn instance(&self) -> &InstanceId {
        match self {
            Self::Turn(turn) => &turn.execution.instance,
            Self::Outcome { tenure, .. }
            | Self::Retry { tenure, .. }
            | Self::Park { tenure, .. }
            | Self::ReleaseActivity { tenure } => &tenure.activity.execution.instance,
            Self::ReleaseInstance { execution, .. } => &execution.instance,
        }
    }
}

/// The writes of a turn, or of the end of an execution from outside.
///
/// Preconditions, checked by the writing statement:
/// - the instance has the identity and the current execution of `execution`, and its last event is `after`;
/// - it is running (or, with [`Then::Finish`], suspended) and owned by the lease;
/// - every message of `consumed` exists;
/// - every activity of `outcomes` exists, owned by the lease, with that attempt.
///
/// If one does not hold, nothing of the turn is written, and the answer is [`CommitError::Conflict`] or
/// [`CommitError::Fenced`]. A first turn that creates its instance has other preconditions: see [`Turn::creates`].
#[derive(Debug, Clone)]
pub struct Turn {
    /// The instance itself, if this is its first turn and creates it: owned by the lease, with its start among the
    /// events and never stored as a message. Nothing is consumed. Then the preconditions are:
    /// - the id is free;
    /// - [`NewInstance::start`] is not remembered as the start of a removed instance or as refused;
    /// - the lease is a member;
    /// - if no [`NewInstance::version`] is given, no other member has a later version than the node.
    pub creates: Option<Box<NewInstance>>,
    /// The execution that made the turn.
    pub execution: ExecutionId,
    /// The last event before the turn; zero if there is none.
    pub after: EventId,
    /// The version that the execution is pinned to since its first turn.
    pub version: Option<Version>,
    /// The new events, following `after` without gaps.
    pub events: Vec<EventRow>,
    /// The messages that the turn has read. They are removed.
    pub consumed: Vec<MessageId>,
    /// The activities, by call and attempt, whose outcome the turn received in memory instead of as a message. They are
    /// removed.
    pub outcomes: Vec<(CallId, u32)>,
    /// Activities to be run.
    pub activities: Vec<NewActivity>,
    /// Activities of this execution whose outcome is no longer wanted: they are removed, and another node that runs one
    /// receives it in [`Acquired::cancelled`](super::Acquired::cancelled). A missing activity is not an error.
    pub cancelled_activities: Vec<CallId>,
    /// Calls of this execution whose delayed messages for it (timers and deadlines) are removed. A missing message is no
    /// error.
    pub cancelled_messages: Vec<CallId>,
    /// Messages to instances, including this one. A message is refused if its instance does not exist, has finished or
    /// has another identity; the turn is written nevertheless.
    pub messages: Vec<Outgoing>,
    /// Instances to be created. If an id is taken: see [`NewChild::if_taken`].
    pub starts: Vec<NewChild>,
    /// The calls that the instance waits for after the turn, for people. [`Then::Continue`] stores it, even if it is `None`;
    /// [`Then::Suspend`] keeps the one before, which holds again once the instance is resumed; the others remove it. A
    /// provider without an [`Admin`](super::Admin) may drop it.
    pub waits: Option<Waits>,
    /// The cause of a failure or a suspension, for people: a text that failures with one cause share, of at most
    /// [`MAX_CAUSE`](Self::MAX_CAUSE) bytes.
    /// [`Then::Suspend`] and [`Then::Finish`] store it, even if it is `None`; the others, and a resume, remove it. A
    /// provider without an [`Admin`](super::Admin) may drop it.
    pub cause: Option<String>,
    /// The state of the instance after the turn.
    pub then: Then,
    /// The time of the turn.
    pub time: Timestamp,
}

impl Turn {
    /// The longest [`cause`](Self::cause), in bytes.
    pub const MAX_CAUSE: usize = 120;

    /// Returns the last event of the execution after the turn.
    pub fn last_event(&self) -> EventId {
        self.events.last().map_or(self.after, |event| event.id)
    }
}

/// A message to an instance.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The instance.
    pub to: InstanceId,
    /// The identity that the instance must have: the message is refused if another instance has taken the id. `None`:
    /// the message is for any instance with the id.
    pub identity: Option<Identity>,
    /// The message.
    pub message: MessageRow,
}

/// An instance that another one starts.
#[derive(Debug, Clone)]
pub struct NewChild {
    /// The new instance.
    pub new: NewInstance,
    /// The message to the instance of the turn once the new one is created, if any.
    pub accepted: Option<MessageRow>,
    /// The message to the instance of the turn if the id is taken.
    pub if_taken: MessageRow,
}

/// An activity to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct NewActivity {
    /// The call.
    pub call: CallId,
    /// The event of this turn that schedules it. The payload of the event is the input, which is not stored a second
    /// time.
    pub scheduled: EventId,
    /// The name.
    pub name: String,
    /// The tag that a node must serve to run it, if any.
    pub tag: Option<String>,
    /// True if it continues when its execution ends.
    pub detached: bool,
    /// True if the committing node runs it at once: it is owned from the beginning.
    pub eager: bool,
    /// Headers for the activity.
    pub headers: TextMap,
}

/// The state of an instance after a turn.
#[derive(Debug, Clone)]
pub enum Then {
    /// It continues to run.
    Continue,
    /// No node of this build can run it: the build rejects it, and it has no owner. Its crashes are reset. As long as a
    /// member can try it, it is running and waits for such a member; otherwise it is suspended. A member can try an
    /// instance if
    /// - its build has not rejected the instance, and
    /// - it has the pinned version; without a pinned version, the latest version that any member has.
    ///
    /// [`Then::Continue`] and [`Then::ContinueAsNew`] forget the rejections, and so does
    /// [`Submission::Resume`](super::Submission::Resume) if the instance is suspended.
    Suspend {
        /// The reason, as JSON.
        reason: String,
    },
    /// It has ended. Remaining activities of the execution (except detached ones) and messages of the instance are
    /// removed; other nodes that run such activities receive them in
    /// [`Acquired::cancelled`](super::Acquired::cancelled).
    Finish {
        /// The end.
        status: InstanceStatus,
    },
    /// The instance continues as execution `number + 1`, still owned, not pinned to a version unless one is given.
    /// Remaining activities (except detached ones) and messages of the old execution are removed. `messages` holds the
    /// start of the new one.
    ContinueAsNew {
        /// The version of the new execution.
        version: Option<Version>,
    },
}

/// The effect of a commit that was carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// True if it was carried out before, by a call whose answer was lost. The other fields are empty then.
    pub repeated: bool,
    /// The placements of the messages of each of [`Turn::starts`].
    pub starts: Vec<ChildPlacement>,
    /// The placement of each of [`Turn::messages`]; for [`Write::Outcome`], one entry.
    pub messages: Vec<Placement>,
}

/// The placements of the messages of a [`NewChild`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildPlacement {
    /// The start of the new instance.
    pub start: Placement,
    /// The message to the instance of the turn: [`NewChild::accepted`], or [`NewChild::if_taken`] if the start was
    /// refused.
    pub answer: Option<Placement>,
}

/// The place where a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// To an instance with an owner.
    Owned {
        /// The epoch of the owner.
        epoch: Epoch,
        /// The identity of the instance.
        identity: Identity,
        /// The number of the message; see [`MessageRow::number`].
        number: Option<u64>,
    },
    /// To an instance without an owner.
    Queued,
    /// The message was not stored: the instance does not exist, has finished, has another identity or execution, or
    /// (for a start) exists already.
    Refused,
}

impl Placement {
    /// Returns the epoch of the owner, if the instance has one.
    pub fn owner(self) -> Option<Epoch> {
        match self {
            Self::Owned { epoch, .. } => Some(epoch),
            Self::Queued | Self::Refused => None,
        }
    }
}

/// The reason why a commit was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The lease does not own the item: it never did, or another node has taken it over. A write other than a turn is
    /// also answered so if it was carried out before.
    #[error("the node does not own this item")]
    Fenced,
    /// The lease owns the item, but a precondition does not hold: the live copy differs from the stored state.
    #[error("the stored state is not the expected one")]
    Conflict,
    /// Another transaction, such as one of the program, has locked a row of this entry; nothing of it was written. The
    /// other entries of the call are answered without waiting for that lock, and the node sends this one again at once, in a
    /// call of its own, which waits. So the answer is only for a call of several entries.
    #[error("another transaction has locked a row of this item")]
    Locked,
    /// This entry failed, and may succeed later; nothing of it was written.
    #[error("the storage failed: {0}")]
    Failed(String),
}
