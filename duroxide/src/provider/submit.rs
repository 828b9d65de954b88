//! Writes of clients, and the answers to them.

use std::time::Duration;

use super::{AuditEntry, Graft, InstanceStatus, Lease, MessageRow, NewInstance, RedactRequest, Turn};
use crate::clock::Timestamp;
use crate::id::{CallId, CommitId, Epoch, Identity, InstanceId, MessageId};

/// One atomic write of a client.
#[derive(Debug, Clone)]
pub enum Submission {
    /// Creates an instance.
    Start(StartRequest),
    /// Sends a message to a live instance.
    Send(SendRequest),
    /// Suspends a live instance until it is resumed.
    Suspend(SuspendRequest),
    /// Makes delayed work of an instance due at once: its start, and its activities without an owner that wait for their
    /// next attempt. Attempts are not counted from scratch. Other delayed messages, which are timers, keep their time.
    ///
    /// If the instance has an owner, its start gets a number and leaves mail; see [`MessageRow::number`].
    Wake(WakeRequest),
    /// Lets a suspended instance and its parked activities run again, even a paused one, and resets its crash count. No
    /// effect on other instances.
    Resume {
        /// The instance.
        instance: InstanceId,
        /// The time of the client.
        time: Timestamp,
    },
    /// Removes a message that no turn has consumed: an external event, or a request to cancel or terminate. No effect if
    /// there is no such message, or if it is a start or answers a call, since the instance would wait for it forever.
    /// A turn that has received the message is refused, because it consumes a message that is missing.
    Drop {
        /// The instance.
        instance: InstanceId,
        /// The message.
        message: MessageId,
    },
    /// Ends an execution from outside, regardless of its owner. Like [`Write::Turn`](super::Write::Turn), but without
    /// the fence; the instance has no owner afterwards.
    Terminate {
        /// The id of the submission. It is remembered for [`REPEAT_TIME`].
        id: CommitId,
        /// The turn, with [`Then::Finish`](super::Then::Finish).
        turn: Box<Turn>,
    },
    /// Writes an execution that begins with a given history, regardless of the owner of its instance. A provider without an
    /// [`Admin`](super::Admin) never receives it.
    Graft(Box<Graft>),
    /// Erases the values of one execution of a finished instance. A provider without an [`Admin`](super::Admin) never
    /// receives it.
    Redact(RedactRequest),
    /// Carries out a submission, and writes a record of it to the audit in the same transaction if the submission has had an
    /// effect ([`Submitted::written`]). A provider without an [`Admin`](super::Admin) may drop the entry.
    Audited {
        /// The record.
        entry: Box<AuditEntry>,
        /// The submission, which is no `Audited`.
        submission: Box<Submission>,
    },
}

/// The time for which a provider remembers at least the id of a request whose rows are gone, so that a repetition is
/// recognised.
///
/// It covers the time for which a client repeats a request ([`Client::with_retry_time`](crate::Client::with_retry_time)),
/// and the half minute in which a late one is still carried out. A clock that is set forward must not shorten it.
pub const REPEAT_TIME: Duration = Duration::from_secs(300);

/// A request to create an instance.
///
/// The id of its start message is the id of the request. If the instance exists and was created by this message, the
/// answer is [`Submitted`] with `written`. The id is remembered for [`REPEAT_TIME`] after the removal of the instance; until
/// then the same request creates nothing.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The instance.
    pub new: NewInstance,
    /// The policy for a taken id.
    pub if_exists: IfExists,
    /// The lease that will own the instance if [`NewInstance::eager`] is set and the lease is a member.
    pub lease: Option<Lease>,
    /// The time of the client.
    pub time: Timestamp,
    /// True if the same request was sent before and has no answer: the earlier one may be carried out late. If this
    /// request creates nothing, the earlier one must not create the instance either: the start message is remembered as
    /// refused, for [`REPEAT_TIME`].
    pub resent: bool,
}

/// A request to pause a live instance: to suspend it until it is resumed, by a client or at a time.
///
/// The instance has no owner afterwards, so that the next turn of the former owner is fenced. Messages to it and outcomes of
/// its activities are stored and wait; its activities continue. A paused instance is not released when the members change
/// ([`Provider::join`](super::Provider::join)): rejections of builds and their reason are kept, but not considered. Its
/// crashes are no longer counted. It can be terminated. A second request replaces the first. An instance that has finished is refused.
#[derive(Debug, Clone)]
pub struct SuspendRequest {
    /// The id of the request. It is remembered for [`REPEAT_TIME`], so that a late repetition does not pause an instance
    /// that was resumed in the meantime.
    pub id: CommitId,
    /// The instance.
    pub instance: InstanceId,
    /// The reason, as JSON: [`InstanceRecord::suspension`](super::InstanceRecord::suspension) shows it.
    pub reason: String,
    /// The cause that [`InstanceRecord::cause`](super::InstanceRecord::cause) shows until it is resumed.
    pub cause: String,
    /// The time at which it is resumed: from then on, a request for work claims it like an instance with a message that is
    /// due, and the claim resumes it, as [`Submission::Resume`] does. Its parked activities stay parked.
    pub until: Option<Timestamp>,
    /// The time of the client.
    pub time: Timestamp,
}

/// A request to wake an instance.
#[derive(Debug, Clone)]
pub struct WakeRequest {
    /// The id of the request, which is remembered for [`REPEAT_TIME`].
    pub id: CommitId,
    /// The instance.
    pub instance: InstanceId,
    /// Only the activity of this call of the current execution. `None`: all, and the start.
    pub call: Option<CallId>,
    /// The time of the client: work that is due later is made due at this time.
    pub time: Timestamp,
}

/// A request to send a message. The id of the message is the id of the request; it is remembered for [`REPEAT_TIME`] after
/// the message was read.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// The instance.
    pub to: InstanceId,
    /// The message.
    pub message: MessageRow,
    /// The lease of the node to which the client forwards the message itself, if that node owns the instance. A message
    /// that is not forwarded leaves mail for the owner; see [`MessageRow::number`].
    pub lease: Option<Lease>,
    /// The time of the client.
    pub time: Timestamp,
    /// True if the same request was sent before and has no answer. If this request is refused, the earlier one must be
    /// refused as well; see [`StartRequest::resent`]. A repeated request always leaves mail, since the client may not
    /// have forwarded the message of the earlier one.
    pub resent: bool,
}

impl Submission {
    /// Marks the submission as sent before.
    pub fn mark_resent(&mut self) {
        match self {
            Self::Start(StartRequest { resent, .. }) | Self::Send(SendRequest { resent, .. }) => *resent = true,
            // A resumption has no effect on an instance that is not suspended, nor a removal on a missing message. The
            // others are recognised by their ids, or by the execution that they name.
            Self::Audited { submission, .. } => submission.mark_resent(),
            Self::Suspend(_)
            | Self::Wake(_)
            | Self::Resume { .. }
            | Self::Drop { .. }
            | Self::Terminate { .. }
            | Self::Graft(_)
            | Self::Redact(_) => {}
        }
    }

    /// Returns the instance that the submission concerns.
    pub fn instance(&self) -> &InstanceId {
        match self {
            Self::Start(request) => &request.new.instance,
            Self::Send(request) => &request.to,
            Self::Suspend(request) => &request.instance,
            Self::Wake(request) => &request.instance,
            Self::Resume { instance, .. } | Self::Drop { instance, .. } => instance,
            Self::Terminate { turn, .. } => &turn.execution.instance,
            Self::Graft(graft) => graft.instance(),
            Self::Redact(request) => &request.execution.instance,
            Self::Audited { submission, .. } => submission.instance(),
        }
    }

    /// Returns the submission without the record of it.
    pub fn unaudited(&self) -> &Self {
        match self {
            Self::Audited { submission, .. } => submission.unaudited(),
            other => other,
        }
    }
}

/// The policy of a start if its id is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IfExists {
    /// The start fails with an error.
    #[default]
    Error,
    /// The instance is not changed, whether it is running or finished, and the start returns a handle to it.
    Attach,
    /// A finished instance is removed with its history, and a new one starts; a live one is an error.
    Replace,
}

/// The effect of a submission that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The epoch of the owner of the instance, if it has one.
    pub owner: Option<Epoch>,
    /// The identity of the instance, if it exists.
    pub identity: Option<Identity>,
    /// The number that this request gave to the message or the start; see [`MessageRow::number`]. `None`: the message
    /// has a time of its own, it was stored or read before, or the instance has no owner.
    pub number: Option<u64>,
    /// True if the request has had an effect. False if [`IfExists::Attach`] found an instance, or if there was nothing
    /// to resume, to wake or to remove.
    pub written: bool,
}

/// The reason why a submission was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The instance does not exist.
    #[error("there is no such instance")]
    NotFound,
    /// The instance has finished.
    #[error("the instance has finished: {0}")]
    Finished(InstanceStatus),
    /// The instance has not finished. If the status is that of an end: it has activities that have not ended.
    #[error("the instance is {0}, or has activities that have not ended")]
    Live(InstanceStatus),
    /// A stored event cannot be read, so its texts cannot be erased.
    #[error("{0}")]
    Unreadable(String),
    /// The id is taken.
    #[error("the id is taken by an instance that is {0}")]
    Exists(InstanceStatus),
    /// The stored instance is not the expected one; read it again.
    #[error("the stored state is not the expected one")]
    Conflict,
    /// This entry failed, and may succeed later; nothing of it was written.
    #[error("the storage failed: {0}")]
    Failed(String),
}
