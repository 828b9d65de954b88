//! Executions that begin with a given history, and the rows of an instance outside its histories.
//!
//! A reset, a fork, an import and a move are all one write: a [`Graft`]. The caller decides which history is legal and which
//! work remains; a provider stores the rows.

use semver::Version;

use super::{AttemptRecord, EventRow, InstanceStatus, MessageRow, NewActivity, NewChild, NewInstance, Outgoing, Ready};
use crate::clock::Timestamp;
use crate::history::Waits;
use crate::id::{CallId, CommitId, EventId, ExecutionId, InstanceId, MessageId};

/// An execution that begins with a history: the next one of an instance, or that of a new instance.
///
/// The instance has no owner afterwards. All rows are written in one step, or none.
#[derive(Debug, Clone)]
pub struct Graft {
    /// The id of the submission. It is remembered for [`REPEAT_TIME`](super::REPEAT_TIME).
    pub id: CommitId,
    /// The place of the execution.
    pub target: GraftTarget,
    /// The version that the execution is pinned to. `None`: its first turn pins one.
    pub version: Option<Version>,
    /// Its events, from the first one without gaps. Empty: it begins with a start among `messages`.
    pub history: Vec<EventRow>,
    /// Activities to be run, including detached ones of earlier executions. None of them has an owner.
    pub activities: Vec<StoredActivity>,
    /// Messages of the instance, in the order of their arrival.
    pub messages: Vec<StoredMessage>,
    /// Instances to be created, as by a turn.
    pub starts: Vec<NewChild>,
    /// Messages to other instances, as by a turn.
    pub outgoing: Vec<Outgoing>,
    /// The time of the client.
    pub time: Timestamp,
}

/// The place of a grafted execution.
#[derive(Debug, Clone)]
pub enum GraftTarget {
    /// It continues an instance, in any status.
    Next(NextExecution),
    /// It is that of a new instance. If the id is taken, the answer is [`SubmitError::Exists`](super::SubmitError::Exists).
    New(Box<CopiedInstance>),
}

/// The continuation of an instance. The number of the new execution is that of `execution` plus one.
///
/// Preconditions: the instance has the identity and the current execution of `execution`, its last event is `last_event`, and
/// every message of `consumed` exists. If one does not hold, nothing is written, and the answer is
/// [`SubmitError::Conflict`](super::SubmitError::Conflict).
///
/// The instance is running afterwards, even if it had finished: then its messages are numbered from 1 again. As with
/// [`Then::ContinueAsNew`](super::Then::ContinueAsNew), remaining activities (except detached ones) and messages of the old
/// execution are removed. Rejections, crashes, the pause, the waits and the cause are forgotten.
#[derive(Debug, Clone)]
pub struct NextExecution {
    /// The current execution.
    pub execution: ExecutionId,
    /// Its last event.
    pub last_event: EventId,
    /// Messages that are removed.
    pub consumed: Vec<MessageId>,
    /// Activities of the current execution that are removed although they are detached. A missing one is not an error.
    pub cancelled_activities: Vec<CallId>,
}

/// A new instance with a past.
#[derive(Debug, Clone)]
pub struct CopiedInstance {
    /// The instance. [`NewInstance::start`] gives its identity, and is not stored; its `eager` and `version` are ignored.
    pub new: NewInstance,
    /// The number of its execution.
    pub execution: u64,
    /// Its state. No other instance is told of its status, whether or not it has a parent.
    pub state: InstanceState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
}

/// The state of an instance beside its current history, its messages and its activities: the same in every storage.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceState {
    /// Its own status: a parked activity does not change it, unlike that of
    /// [`InstanceRecord::status`](super::InstanceRecord::status).
    pub status: InstanceStatus,
    /// The reason for which a build has last rejected it, if it has made no progress since.
    pub suspension: Option<String>,
    /// The builds that have rejected it.
    pub rejected_by: Vec<String>,
    /// Its pause, if it is paused: then `status` is [`InstanceStatus::Suspended`].
    pub pause: Option<StoredPause>,
    /// The calls that it waits for, as in [`Turn::waits`](super::Turn::waits).
    pub waits: Option<Waits>,
    /// The cause of its failure or suspension, as in [`Turn::cause`](super::Turn::cause).
    pub cause: Option<String>,
    /// The kept failed attempts of its activities.
    pub attempts: Vec<AttemptRecord>,
    /// The earlier executions that were not pruned. In an [`InstanceRows`], without their events.
    pub earlier: Vec<EarlierExecution>,
}

impl InstanceState {
    /// Returns the state of an instance with this status and without a past.
    pub fn new(status: InstanceStatus) -> Self {
        Self {
            status,
            suspension: None,
            rejected_by: Vec::new(),
            pause: None,
            waits: None,
            cause: None,
            attempts: Vec::new(),
            earlier: Vec::new(),
        }
    }
}

/// A pause of an instance; see [`Submission::Suspend`](super::Submission::Suspend).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPause {
    /// The reason, as JSON.
    pub reason: String,
    /// When it ends. `None`: only a client ends it.
    pub until: Option<Timestamp>,
}

/// An execution that was continued.
#[derive(Debug, Clone, PartialEq)]
pub struct EarlierExecution {
    /// Its number.
    pub number: u64,
    /// When it was continued.
    pub continued_at: Timestamp,
    /// Its events. In an [`InstanceRows`], they are left out.
    pub history: Vec<EventRow>,
}

/// A message in the queue of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMessage {
    /// The message.
    pub row: MessageRow,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// True if a client has sent it: then its id is remembered when it is removed.
    pub by_client: bool,
}

/// An activity that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredActivity {
    /// The number of its execution.
    pub execution: u64,
    /// The activity; `eager` is false.
    pub activity: NewActivity,
    /// The number of its current or next attempt, from 1.
    pub attempt: u32,
    /// When its next attempt may begin.
    pub ready: Ready,
    /// The reason for which a build has last rejected it.
    pub rejected: Option<String>,
    /// The cause that it shows ([`ActivityRecord::cause`](super::ActivityRecord::cause)): while it is parked, that of its
    /// rejection; otherwise that of its last failed attempt.
    pub cause: Option<String>,
    /// The other one of the two, which it shows once it is released, or parked again.
    pub other_cause: Option<String>,
    /// The builds that have rejected it.
    pub rejected_by: Vec<String>,
    /// True if it is rejected and no member can try it.
    pub parked: bool,
}

/// The rows of an instance outside its histories, as they were at one moment.
#[derive(Debug, Clone)]
pub struct InstanceRows {
    /// Its current, or last, execution.
    pub execution: ExecutionId,
    /// The last event of the execution.
    pub last_event: EventId,
    /// Its state.
    pub state: InstanceState,
    /// Its messages, in the order of their arrival.
    pub messages: Vec<StoredMessage>,
    /// Its activities that have not ended, sorted by execution and call.
    pub activities: Vec<StoredActivity>,
}

impl Graft {
    /// Returns the instance that it writes.
    pub fn instance(&self) -> &InstanceId {
        match &self.target {
            GraftTarget::Next(next) => &next.execution.instance,
            GraftTarget::New(copied) => &copied.new.instance,
        }
    }

    /// Returns the execution that it writes.
    pub fn execution(&self) -> ExecutionId {
        match &self.target {
            GraftTarget::Next(next) => next.execution.next(),
            GraftTarget::New(copied) => ExecutionId { number: copied.execution, ..copied.new.first_execution() },
        }
    }

    /// Returns its last event; zero if there is none.
    pub fn last_event(&self) -> EventId {
        self.history.last().map_or(EventId(0), |event| event.id)
    }
}
