//! What goes to and fro between a provider, the nodes and the clients.

use std::sync::Arc;

use semver::Version;

use super::{EventRow, InstanceStatus, Lease, MessageRow, NewInstance};
use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::{ActivityId, CallId, CommitId, Epoch, EventId, ExecutionId, InstanceId, MessageId};

/// An item that has seen this many crashes is handed out by itself. Until it has made progress, its node takes on nothing
/// else; not for long, though, since it may be innocent.
pub const QUARANTINE: u32 = 3;

/// An item that has seen this many crashes, the last of them when it was handed out by itself, is suspect. Well above
/// [`QUARANTINE`]: in a program with little to do every item is alone, and somebody who kills it a few times in the middle
/// of one step is no fault of that step.
pub const CRASH_LIMIT: u32 = 10;

/// What a renewal brings back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The lease holds.
    Held {
        /// Activities of this node that nobody waits for any more, each of them told once.
        cancelled: Vec<ActivityId>,
    },
    /// Another node has taken over. Whatever this one owned, it owns no longer; it may join again.
    Lost,
}

/// What a node asks for.
#[derive(Debug, Clone)]
pub struct Want {
    /// What it can run now. Only orchestrations whose name and version (or, where no version is pinned, name) are listed
    /// are handed out; activities as `activities` says.
    pub orchestrations: Arc<[(String, Version)]>,
    /// How many instances it can take on.
    pub instances: usize,
    /// Which activities it can take on, group by group.
    pub activities: Vec<ActivityGroup>,
    /// Serves activities with these tags beside untagged ones. `None`: all.
    pub tags: Option<Arc<[String]>>,
    /// Instances to be loaded although they are owned by this node: it has no live copy of them.
    pub load: Vec<InstanceId>,
    /// Whether the node may be given one item with [`QUARANTINE`] crashes or more, and nothing else that is new.
    pub alone: bool,
    /// The time by the node's clock, for what is due at a time. A provider with a clock of its own uses that. What waits
    /// for no time is handed out at once, although the clock of whoever wrote it may be ahead.
    pub now: Timestamp,
    /// How far the messages of owned instances were handed out before: the cursor of the last answer, at first the default.
    pub cursor: Cursor,
    /// Names the question within its lease. One that is asked again, because its answer was lost, is answered with what was
    /// newly handed out the first time, as far as the lease still owns it, and with nothing else that is new: it may also be an
    /// earlier sending of it that comes late, and that nobody hears the answer of. Numbers only grow: to one below that of
    /// the last question nothing is newly handed out. `None`: it will not be asked again.
    pub question: Option<u64>,
}

/// Some activities, and how many of them can be taken on together.
#[derive(Debug, Clone)]
pub struct ActivityGroup {
    /// The names.
    pub names: Arc<[String]>,
    /// How many.
    pub limit: usize,
}

/// How far messages were handed out to a lease: by arrival, and by the time that delayed ones became visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The arrival number of the last message.
    pub arrival: i64,
    /// The latest time at which delayed messages were looked for.
    pub time: Timestamp,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { arrival: 0, time: Timestamp::from_micros(i64::MIN) }
    }
}

/// What a node is given. Whatever is in here is owned by its lease, durably.
#[derive(Debug, Clone, Default)]
pub struct Acquired {
    /// Instances to load: newly owned ones that have messages which are due, oldest due first; and those of [`Want::load`]
    /// that this lease still owns.
    pub instances: Vec<AcquiredInstance>,
    /// Activities to run, oldest due first.
    pub activities: Vec<AcquiredActivity>,
    /// Messages, in the order of delivery, for instances that this lease owned before: those that arrived or became
    /// visible since [`Want::cursor`]. The same message may be handed out again.
    pub messages: Vec<(InstanceId, MessageRow)>,
    /// When to ask again, if nothing happens before: the earliest time at which something that this node may have becomes
    /// due. In the past, when there is more than was asked for; of a kind of which nothing was asked for, nothing is said.
    pub next_due: Option<Timestamp>,
    /// To be handed in with the next question.
    pub cursor: Cursor,
}

/// An instance that a node now owns.
#[derive(Debug, Clone)]
pub struct AcquiredInstance {
    /// Its current execution.
    pub execution: ExecutionId,
    /// The name of its orchestration.
    pub name: String,
    /// The version that it is pinned to. `None`: its first turn has not been.
    pub version: Option<Version>,
    /// The last event of the current execution; zero when there is none.
    pub last_event: EventId,
    /// All its messages that are due, in the order of delivery.
    pub messages: Vec<MessageRow>,
    /// How many owners died with it in flight since it last made progress.
    pub crashes: u32,
    /// Whether an owner died that was given it by itself, after [`CRASH_LIMIT`] crashes: the instance is to be suspended.
    pub suspect: bool,
}

/// An activity that a node now owns.
#[derive(Debug, Clone)]
pub struct AcquiredActivity {
    /// Which it is.
    pub id: ActivityId,
    /// The attempt that is to be made, from 1.
    pub attempt: u32,
    /// How many owners died with it in flight.
    pub crashes: u32,
    /// Whether an owner died that was given it by itself, after [`CRASH_LIMIT`] crashes: it is to be set aside.
    pub suspect: bool,
    /// The event that scheduled it, with the name, the options and the input.
    pub scheduled: EventRow,
    /// Headers handed on from the orchestration.
    pub headers: TextMap,
}

/// One atomic write of a node.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its id. The provider remembers the last one of each instance and each activity that it changed; of an outcome, and of
    /// what gives something back and names no attempt, for an hour: it may be taken again and go on meanwhile.
    pub id: CommitId,
    /// What is written.
    pub write: Write,
}

/// What a node writes.
#[derive(Debug, Clone)]
pub enum Write {
    /// A turn of an instance that the lease owns.
    Turn(Box<Turn>),
    /// An attempt of an activity that the lease owns has come to its end, and its instance is not live here: the message
    /// goes to the instance (if its execution is still the current one), the activity is removed.
    Outcome {
        /// The activity.
        activity: ActivityId,
        /// The attempt that was made.
        attempt: u32,
        /// The message to its instance.
        message: MessageRow,
    },
    /// An attempt of an activity that the lease owns has failed and is to be made again: the activity goes back to the
    /// queue, without an owner.
    Retry {
        /// The activity.
        activity: ActivityId,
        /// The attempt that was made.
        attempt: u32,
        /// When the next may be made.
        visible_at: Timestamp,
    },
    /// An activity that the lease owns cannot be run by any node of this build: it is set aside until its instance is
    /// resumed, and the instance shows the reason.
    Park {
        /// The activity.
        activity: ActivityId,
        /// Why, as JSON.
        reason: String,
    },
    /// The lease gives back an activity that it has not begun.
    ReleaseActivity {
        /// The activity.
        activity: ActivityId,
    },
    /// The lease gives back an instance of which it has no live copy.
    ReleaseInstance {
        /// The instance.
        instance: InstanceId,
    },
}

impl Write {
    /// The instance that this is about.
    pub(crate) fn instance(&self) -> &InstanceId {
        match self {
            Self::Turn(turn) => &turn.execution.instance,
            Self::Outcome { activity, .. }
            | Self::Retry { activity, .. }
            | Self::Park { activity, .. }
            | Self::ReleaseActivity { activity } => &activity.execution.instance,
            Self::ReleaseInstance { instance } => instance,
        }
    }
}

/// What a turn, or the end of an execution from outside, writes.
///
/// Preconditions, checked by the writing statement: the current execution is `execution`, its last event is `after`, the
/// instance is running (or, with [`Then::Finish`], suspended) and owned by the lease; every message of `consumed` is there;
/// every activity of `outcomes` is there, owned by the lease, with that attempt. Where one does not hold, nothing of the
/// turn is written, and the answer is [`CommitError::Conflict`] or [`CommitError::Fenced`]. A first turn that creates its
/// instance has others: see [`Turn::creates`].
#[derive(Debug, Clone)]
pub struct Turn {
    /// The instance itself, where this is its first turn and creates it: owned by the lease, with its start among the events
    /// and never stored as a message. Then the preconditions are: nobody has the id or has had it not long ago,
    /// [`NewInstance::start`] is not remembered, as that of an instance that was removed or as refused, and the lease is a
    /// member. Nothing is consumed.
    pub creates: Option<Box<NewInstance>>,
    /// The execution that made the turn.
    pub execution: ExecutionId,
    /// The last event before the turn; zero when there is none.
    pub after: EventId,
    /// The version that the execution is pinned to, from its first turn on.
    pub version: Option<Version>,
    /// The new events, behind `after` without gaps.
    pub events: Vec<EventRow>,
    /// Messages that the turn has read: they are removed.
    pub consumed: Vec<MessageId>,
    /// Activities whose outcome is among the events without having been a message: call and attempt. They are removed.
    pub outcomes: Vec<(CallId, u32)>,
    /// Activities to be run.
    pub activities: Vec<NewActivity>,
    /// Activities of this execution that nobody waits for any more: removed. A node that runs one is told by
    /// [`Renewal::Held`]. It is no error when one is not there.
    pub cancelled_activities: Vec<CallId>,
    /// Messages of this execution that are taken back by their call: timers and deadlines. It is no error when one is not
    /// there.
    pub cancelled_messages: Vec<CallId>,
    /// Messages to instances, this one included. One to an instance that does not exist or
    /// has finished is refused, and the turn is written all the same.
    pub messages: Vec<Outgoing>,
    /// Instances to be created. Where the id is taken: see [`NewChild::otherwise`].
    pub starts: Vec<NewChild>,
    /// What the instance does next.
    pub then: Then,
    /// The time of the turn.
    pub time: Timestamp,
}

/// A message to an instance.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The instance.
    pub to: InstanceId,
    /// The message.
    pub message: MessageRow,
}

/// An instance that another one starts.
#[derive(Debug, Clone)]
pub struct NewChild {
    /// The new instance.
    pub new: NewInstance,
    /// What the instance of the turn is told once it is created. `None`: nothing.
    pub accepted: Option<MessageRow>,
    /// What the instance of the turn is told when the id is taken.
    pub otherwise: MessageRow,
}

/// An activity to be run.
#[derive(Debug, Clone)]
pub struct NewActivity {
    /// The call.
    pub call: CallId,
    /// The event of this turn that schedules it: its payload is the input, which is not stored a second time.
    pub scheduled: EventId,
    /// The name.
    pub name: String,
    /// Only for nodes that serve this tag.
    pub tag: Option<String>,
    /// Whether it stays when its execution ends.
    pub detached: bool,
    /// Whether the committing node will run it itself at once: it is owned from the beginning.
    pub eager: bool,
    /// Headers handed on to it.
    pub headers: TextMap,
}

/// What an instance does after a turn.
#[derive(Debug, Clone)]
pub enum Then {
    /// It goes on.
    Go,
    /// It stops until it is resumed. It has no owner any more.
    Suspend {
        /// Why, as JSON.
        reason: String,
    },
    /// It has come to its end. Activities of the execution (except detached ones) and messages of the instance that are
    /// left over are removed; nodes that run one of these activities are told.
    Finish {
        /// Which end.
        status: InstanceStatus,
    },
    /// The instance goes on as execution `number + 1`, still owned, not pinned to a version unless one is given. Activities
    /// (except detached ones) and messages of the old execution that are left over are removed. `messages` holds what
    /// starts the new one.
    ContinueAsNew {
        /// The version of the new execution.
        version: Option<Version>,
    },
}

/// What became of a commit that was carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Whether it had been carried out before, by a call whose answer was lost. The rest is empty then.
    pub repeated: bool,
    /// For each of [`Turn::starts`], or of the one message of an outcome: where it went.
    pub starts: Vec<Placement>,
    /// For each of [`Turn::messages`]; for [`Write::Outcome`], one entry.
    pub messages: Vec<Placement>,
}

/// Where a message or a new instance went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// To the instance, which this lease owns.
    Owned(Epoch),
    /// To the instance, which nobody owns.
    Queued,
    /// Nowhere: the instance does not exist, has finished, or (for a start) exists already. The alternative was delivered.
    Refused,
}

/// Why a commit was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The lease does not own what it wrote to (any more).
    #[error("the node does not own this any more")]
    Fenced,
    /// The lease owns it, but a precondition does not hold: the live copy is not what is stored.
    #[error("the stored state is not what the commit expects")]
    Conflict,
    /// This entry failed, and may succeed later; nothing of it was written.
    #[error("the storage failed: {0}")]
    Failed(String),
}

/// One atomic write of a client.
#[derive(Debug, Clone)]
pub enum Submission {
    /// Create an instance.
    Start {
        /// The instance. Its start message names the submission: if the instance exists and was created by this very
        /// message, the answer is as if it had just been created. It is remembered for an hour beyond the removal of
        /// the instance: whoever sends it again then creates nothing.
        new: NewInstance,
        /// When the id is taken.
        if_exists: IfExists,
        /// The lease that will own it if [`NewInstance::eager`].
        lease: Option<Lease>,
        /// The time of the client.
        time: Timestamp,
        /// Whether the same was sent before and is without an answer: it may still be on its way. Where this one creates
        /// nothing, that one never will: its start message is remembered as refused, for an hour, and is answered so.
        again: bool,
    },
    /// Send a message to a live instance. Its id names the submission; it is remembered for an hour beyond the reading.
    Send {
        /// The instance.
        to: InstanceId,
        /// The message.
        message: MessageRow,
        /// The lease whose node the client hands the message to by itself; other owners are told to look, and clients of
        /// theirs that something is to be found: see [`Submitted::last_found`].
        lease: Option<Lease>,
        /// The time of the client.
        time: Timestamp,
        /// Whether the same was sent before and is without an answer. Where this one is refused, that one will be as well,
        /// whatever has the id then: see [`Submission::Start`].
        again: bool,
    },
    /// Let a suspended instance run again, and its parked activities. Its crashes are forgotten. No effect on others.
    Resume {
        /// The instance.
        instance: InstanceId,
        /// The time of the client.
        time: Timestamp,
    },
    /// End an execution from outside, whoever owns it. As [`Write::Turn`], but without the fence; the instance has no owner
    /// afterwards.
    Terminate {
        /// Names the submission. It is remembered for an hour.
        id: CommitId,
        /// What is written; with [`Then::Finish`].
        turn: Box<Turn>,
    },
}

impl Submission {
    /// Says that the same was sent before and may still be on its way.
    pub(crate) fn repeated(&mut self) {
        match self {
            Self::Start { again, .. } | Self::Send { again, .. } => *again = true,
            // It has no effect on what is not suspended.
            Self::Resume { .. } => {}
            // It names an execution, and no other instance will ever have that.
            Self::Terminate { .. } => {}
        }
    }
}

/// What a start does when the id is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfExists {
    /// It is refused with an error.
    #[default]
    Error,
    /// It leaves the instance as it is, running or finished, and returns a handle to it.
    Attach,
    /// It removes a finished instance with its history and starts anew; a live one is an error.
    Replace,
}

/// What became of a submission that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Who owns the instance, and will find the message there; or nobody.
    pub owner: Option<Epoch>,
    /// The execution of the instance that is current. The first is 1; an instance that takes the id of another, replacing it or
    /// within an hour of its removal, goes on counting, so that what is left of the old one (activities, children,
    /// idempotency keys) is never taken for its own.
    pub execution: u64,
    /// Whether something was written: `false` where [`IfExists::Attach`] found an instance, or for a resume without effect.
    pub written: bool,
    /// For a message: the number, as [`Cursor::arrival`] counts, of the last one that clients have sent to the instance before
    /// and its owner has to ask for, because none of them handed it over. Whoever hands this one over does not overtake it.
    pub last_found: Option<i64>,
}

/// Why a submission was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// There is no such instance.
    #[error("there is no such instance")]
    NotFound,
    /// The instance has finished.
    #[error("the instance has finished: {0}")]
    Finished(InstanceStatus),
    /// The id is taken.
    #[error("the id is taken by an instance that is {0}")]
    Exists(InstanceStatus),
    /// The instance is not what the submission expects; read it again.
    #[error("the stored state is not what was expected")]
    Conflict,
    /// This entry failed, and may succeed later; nothing of it was written.
    #[error("the storage failed: {0}")]
    Failed(String),
}
