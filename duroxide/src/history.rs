//! The events of one execution: the only source of truth for its state.
//!
//! A history is a sequence of steps. Each step is one [`Input`], followed by the [`Decision`]s that the function made
//! when it was polled with it.
//!
//! A program needs these types to inspect a history ([`Handle::history`](crate::Handle::history)), or to keep one for a
//! test of later code (`testing::check_history`). The page [Polling and execution model] explains an example.
//!
//! [Polling and execution model]: https://github.com/duroxide/duroxide/blob/main/docs/polling-and-execution-model.md#steps

mod erase;
mod line;
mod origin;
mod saved;
mod waits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use origin::Run;
pub(crate) use origin::place_text;
pub(crate) use saved::{SavedEvent, Time};
use semver::Version;
use serde::{Deserialize, Serialize};
pub use waits::{Awaited, AwaitedKind, NotAwaited, Waits, WaitsFilter};

use crate::clock::Timestamp;
use crate::id::{CallId, EventId, ExecutionId, InstanceId};
use crate::payload::Payload;
use crate::policy::{ActivityOptions, ClosePolicy, Timeout, micros};

/// The newest format of events and messages that this version reads.
///
/// Each row is written in the lowest format that can read it ([`Input::format`], [`Decision::format`]), so that older
/// nodes can run an instance as long as it uses nothing newer. A row with a field or a variant that was added to a
/// stored type is written in the next format. The types refuse unknown fields, so that no reader skips a field that it
/// does not understand.
///
/// | format | adds |
/// | --- | --- |
/// | 1 | all events of the first version |
/// | 2 | the identity of the parent in links to it, headers of external events |
/// | 3 | a request to end that arrived before the start was delivered |
/// | 4 | the details of a time-out |
/// | 5 | children whose id is derived when it is needed |
/// | 6 | the removal of an unread event, the called function of a failure |
/// | 7 | the run of an attempt, the author of a request |
pub(crate) const FORMAT: u16 = 7;

/// Labels or headers: short texts by name, sorted.
pub type TextMap = BTreeMap<String, String>;

/// One event of a history. [`Display`](std::fmt::Display) shows it in one line, and `serde_json` writes and reads it: to keep
/// a history in a file, for a test of later code (`testing::check_history`).
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEvent {
    /// Its position, from 1 without gaps.
    pub id: EventId,
    /// The time of its recording, by the clock of the committing node; never earlier than the previous event.
    pub time: Timestamp,
    /// The input or decision.
    pub kind: EventKind,
    /// The value that belongs to it: an input, a result, an error; `null` where there is none.
    pub payload: Payload,
    /// The place in the source of the call that a decision schedules: `src/checkout.rs:41:20`. For people: a replay does
    /// not compare it, since lines of code may move between deploys. `None` for other events, and if it was not recorded.
    pub at: Option<Arc<str>>,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// An input of the function.
    Input(Input),
    /// A decision of the function.
    Decision(Decision),
}

/// An input of an execution: a message at first, and an event once a turn has delivered it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub enum Input {
    /// The execution begins. Payload: its input.
    Started(Box<Started>),
    /// An activity returned `Ok`. Payload: its output.
    ActivityCompleted {
        /// The call that scheduled it.
        call: CallId,
        /// The attempt that returned it. `None`: the first one, which the node that had scheduled it began at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Run>,
    },
    /// An activity ended without a result. Payload: its error, if it has one.
    ActivityFailed {
        /// The call that scheduled it.
        call: CallId,
        /// The reason.
        failure: Failure,
        /// The activity, unless the failure is its own error or a time-out, which names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        callee: Option<Box<Callee>>,
        /// The attempt that failed last. `None` as in [`ActivityCompleted`](Self::ActivityCompleted), and for a time-out of
        /// the whole call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Run>,
    },
    /// A timer is due.
    TimerFired {
        /// The call that created it.
        call: CallId,
    },
    /// An external event. Payload: its content.
    EventRaised {
        /// The name of the event.
        name: String,
        /// Headers given by the client that raised it.
        #[serde(default, skip_serializing_if = "TextMap::is_empty")]
        headers: TextMap,
        /// The person or program for which the client acted, if it says so ([`Client::with_note`](crate::Client::with_note)).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// An operator has removed an external event that the function has not read.
    EventDropped {
        /// The event that recorded it.
        event: EventId,
    },
    /// A child returned `Ok`. Payload: its output.
    ChildCompleted {
        /// The call that started it.
        call: CallId,
    },
    /// A child ended without a result. Payload: its error, if it has one.
    ChildFailed {
        /// The call that started it.
        call: CallId,
        /// The reason.
        failure: Failure,
        /// The orchestration, unless the failure is its own error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        callee: Option<Box<Callee>>,
    },
    /// A detached start was carried out.
    StartAccepted {
        /// The call that requested it.
        call: CallId,
    },
    /// A child or a detached start could not be started.
    StartRejected {
        /// The call that requested it.
        call: CallId,
        /// The reason.
        reason: String,
    },
    /// A request to cancel this execution.
    CancelRequested {
        /// The reason that the requester gave.
        reason: String,
        /// The call of the parent that requests it, because the call was dropped or the parent ended. Only the child
        /// that this call started accepts the request, not a later instance of the same id. `None`: a request from a
        /// client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Box<Parent>>,
        /// The person or program for which the client acted, if it says so ([`Client::with_note`](crate::Client::with_note)).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A request of its parent, which has ended, to terminate this execution.
    TerminateRequested {
        /// The reason.
        reason: String,
        /// As in [`CancelRequested`](Self::CancelRequested).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Box<Parent>>,
        /// The person or program for which the client acted, if it says so ([`Client::with_note`](crate::Client::with_note)).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

/// The start of an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The name of the orchestration.
    pub name: String,
    /// Its version. `None` only in a message: the first turn pins the latest that its node has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The seed of its random numbers.
    pub seed: u64,
    /// The call that waits for its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Headers given at the start, which are passed on to its activities and children.
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub headers: TextMap,
    /// Labels given at the start.
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub labels: TextMap,
    /// A request to end that had arrived before the start was delivered. Set by the first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<EndRequest>,
}

/// A request to end that reaches an execution with its start, so that it does not wait behind other messages, and an
/// execution that continues as new without a wait receives it at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum EndRequest {
    /// A cancel request to the first execution of an instance, for example before a delayed start is due: the execution
    /// ends without running its function.
    CancelBeforeStart {
        /// The reason.
        reason: String,
        /// As in [`Input::CancelRequested`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A cancel request to a later execution: its function runs to the first wait, and ends there unless it listens for
    /// the request.
    Cancel {
        /// The reason.
        reason: String,
        /// As in [`Input::CancelRequested`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A request to terminate: the execution ends without running its function.
    Terminate {
        /// The reason.
        reason: String,
        /// As in [`Input::CancelRequested`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

/// The call of the parent that a child answers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// The parent's execution.
    pub execution: ExecutionId,
    /// The call in it.
    pub call: CallId,
}

/// A decision of the function in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub enum Decision {
    /// Schedule an activity. Payload: its input.
    ActivityScheduled(Box<ActivityScheduled>),
    /// Create a timer.
    TimerCreated {
        /// The call.
        call: CallId,
        /// When it fires.
        due: Timestamp,
    },
    /// Wait for an external event.
    EventAwaited {
        /// The call.
        call: CallId,
        /// The name of the event.
        name: String,
    },
    /// Start another orchestration. Payload: its input.
    ChildScheduled(Box<ChildScheduled>),
    /// Refuse a call because of its values: it fails at once.
    CallRejected {
        /// The call.
        call: CallId,
        /// The operation of the call.
        operation: String,
        /// The reason of the refusal.
        reason: String,
    },
    /// A pending call was dropped; its outcome is discarded.
    CallDropped {
        /// The call.
        call: CallId,
    },
    /// The function returned `Ok`. Payload: its output. This and all following kinds are the last event of a history.
    Completed,
    /// The function returned `Err` or panicked. Payload: its error, if it has one.
    Failed {
        /// The reason.
        failure: Failure,
    },
    /// The execution was cancelled, and its function did not listen for the request.
    Cancelled {
        /// The reason that the requester gave.
        reason: String,
    },
    /// An operator ended the execution.
    Terminated {
        /// The reason that the requester gave.
        reason: String,
        /// The person or program for which the client acted, if it says so ([`Client::with_note`](crate::Client::with_note)).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The instance continues as a new execution. Payload: the input of the new execution.
    ContinuedAsNew {
        /// The version of the new execution. `None`: the latest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
    },
}

/// An activity to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivityScheduled {
    /// The call.
    pub call: CallId,
    /// The name of the activity.
    pub name: String,
    /// Nodes that serve this tag may run it. `None`: every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// True if the activity continues when the call is dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// Retry and timeouts. Not compared on replay: they may be tuned while instances run.
    #[serde(default, skip_serializing_if = "ActivityOptions::is_default")]
    pub options: ActivityOptions,
}

/// An orchestration to be started by another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildScheduled {
    /// The call.
    pub call: CallId,
    /// The name of the orchestration.
    pub name: String,
    /// Its version. `None`: the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The id that the code gave to the new instance. `None`: a derived one ([`instance_in`](Self::instance_in)). Rows
    /// of older formats hold derived ids, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// True if the new instance is independent: the call completes once it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// The policy that closes it when its parent ends first. Not compared on replay.
    #[serde(default)]
    pub close: ClosePolicy,
}

impl ChildScheduled {
    /// Returns the id of the new instance, scheduled by an execution.
    pub fn instance_in(&self, parent: &ExecutionId) -> InstanceId {
        self.instance.clone().unwrap_or_else(|| InstanceId::derived(parent, self.call))
    }
}

/// The reason why a call or an execution has no result. The error value of user code, if any, is the payload beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub enum Failure {
    /// User code returned `Err`.
    Application,
    /// User code panicked.
    Panicked {
        /// The message of the panic. In an input, prefixed with the instance that panicked.
        message: String,
    },
    /// A declared time limit passed.
    TimedOut {
        /// The limit that passed.
        limit: Timeout,
        /// The facts about it. `None` in rows of older formats.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Box<TimeoutDetails>>,
    },
    /// It was cancelled.
    Cancelled {
        /// The reason.
        reason: String,
    },
    /// It was terminated by an operator.
    Terminated {
        /// The reason.
        reason: String,
    },
    /// A value of the call is refused.
    Rejected {
        /// The reason.
        reason: String,
    },
}

/// The facts about a time-out of an activity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutDetails {
    /// The name of the activity.
    pub activity: String,
    /// The duration of the limit.
    #[serde(default, with = "micros", skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// The number of attempts that have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The failure of the last attempt before. Its error, if it has one, is the payload beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Failure>,
}

/// The called function of a call that has failed, as it is recorded with the failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Callee {
    /// An activity.
    #[non_exhaustive]
    Activity {
        /// Its name.
        name: String,
        /// The number of attempts that have ended.
        attempts: u32,
    },
    /// A child orchestration.
    #[non_exhaustive]
    Orchestration {
        /// Its name.
        name: String,
    },
}

impl Callee {
    /// Returns the name of the function.
    pub fn name(&self) -> &str {
        match self {
            Self::Activity { name, .. } | Self::Orchestration { name } => name,
        }
    }

    /// Returns the number of attempts of an activity that have ended.
    pub fn attempts(&self) -> Option<u32> {
        match self {
            Self::Activity { attempts, .. } => Some(*attempts),
            Self::Orchestration { .. } => None,
        }
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity { name, attempts: 1 } => write!(f, "activity {name:?}"),
            Self::Activity { name, attempts } => write!(f, "activity {name:?}, {attempts} attempts"),
            Self::Orchestration { name } => write!(f, "orchestration {name:?}"),
        }
    }
}

impl Input {
    /// Returns the lowest format whose readers understand this input.
    pub(crate) fn format(&self) -> u16 {
        let identified = |parent: Option<&Parent>| parent.is_some_and(|parent| !parent.execution.identity.is_unknown());
        if self.run().is_some() || self.by().is_some() {
            return 7;
        }
        let is_second = match self {
            Self::EventDropped { .. }
            | Self::ActivityFailed { callee: Some(_), .. }
            | Self::ChildFailed { callee: Some(_), .. } => return 6,
            Self::ActivityFailed { failure: Failure::TimedOut { details: Some(_), .. }, .. } => return 4,
            Self::Started(started) if started.request.is_some() => return 3,
            Self::Started(started) => identified(started.parent.as_ref()),
            Self::CancelRequested { parent, .. } | Self::TerminateRequested { parent, .. } => {
                identified(parent.as_deref())
            }
            Self::EventRaised { headers, .. } => !headers.is_empty(),
            Self::ActivityCompleted { .. }
            | Self::ActivityFailed { .. }
            | Self::TimerFired { .. }
            | Self::ChildCompleted { .. }
            | Self::ChildFailed { .. }
            | Self::StartAccepted { .. }
            | Self::StartRejected { .. } => false,
        };
        if is_second { 2 } else { 1 }
    }

    /// Returns the request to end that this input is for an execution that has not begun, with the call that has sent it.
    pub(crate) fn end_request(&self, is_first_execution: bool) -> Option<(EndRequest, Option<&Parent>)> {
        match self {
            Self::CancelRequested { reason, parent, by } => {
                let (reason, by) = (reason.clone(), by.clone());
                let request = match is_first_execution {
                    true => EndRequest::CancelBeforeStart { reason, by },
                    false => EndRequest::Cancel { reason, by },
                };
                Some((request, parent.as_deref()))
            }
            Self::TerminateRequested { reason, parent, by } => {
                Some((EndRequest::Terminate { reason: reason.clone(), by: by.clone() }, parent.as_deref()))
            }
            _ => None,
        }
    }

    /// Returns false if a stored input is certainly no request to end, without parsing it.
    pub(crate) fn may_be_end_request(json: &str) -> bool {
        json.starts_with("{\"CancelRequested\"") || json.starts_with("{\"TerminateRequested\"")
    }

    /// Returns true if a stored input is an external event, without parsing it.
    pub(crate) fn is_event(json: &str) -> bool {
        json.starts_with("{\"EventRaised\"")
    }

    /// Returns false if a stored input is certainly no removal of an unread event, without parsing it.
    pub(crate) fn may_be_removal(json: &str) -> bool {
        json.starts_with("{\"EventDropped\"")
    }

    /// Returns an external event without headers.
    pub fn raised(name: impl Into<String>) -> Self {
        Self::EventRaised { name: name.into(), headers: TextMap::new(), by: None }
    }

    /// Returns the call that this input answers, if any.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Self::ActivityCompleted { call, .. }
            | Self::ActivityFailed { call, .. }
            | Self::TimerFired { call }
            | Self::ChildCompleted { call }
            | Self::ChildFailed { call, .. }
            | Self::StartAccepted { call }
            | Self::StartRejected { call, .. } => Some(*call),
            Self::Started(_)
            | Self::EventRaised { .. }
            | Self::EventDropped { .. }
            | Self::CancelRequested { .. }
            | Self::TerminateRequested { .. } => None,
        }
    }
}

impl Decision {
    /// Returns the lowest format whose readers understand this decision.
    pub(crate) fn format(&self) -> u16 {
        match self {
            Self::Terminated { by: Some(_), .. } => 7,
            Self::ChildScheduled(child) if child.instance.is_none() => 5,
            Self::ActivityScheduled(_)
            | Self::TimerCreated { .. }
            | Self::EventAwaited { .. }
            | Self::ChildScheduled(_)
            | Self::CallRejected { .. }
            | Self::CallDropped { .. }
            | Self::Completed
            | Self::Failed { .. }
            | Self::Cancelled { .. }
            | Self::Terminated { .. }
            | Self::ContinuedAsNew { .. } => 1,
        }
    }

    /// Returns the call of this decision; `None` for the end of the execution.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Self::ActivityScheduled(activity) => Some(activity.call),
            Self::ChildScheduled(child) => Some(child.call),
            Self::TimerCreated { call, .. }
            | Self::EventAwaited { call, .. }
            | Self::CallRejected { call, .. }
            | Self::CallDropped { call } => Some(*call),
            Self::Completed
            | Self::Failed { .. }
            | Self::Cancelled { .. }
            | Self::Terminated { .. }
            | Self::ContinuedAsNew { .. } => None,
        }
    }

    /// Returns true if this decision makes a call.
    pub(crate) fn is_call(&self) -> bool {
        self.call().is_some() && !matches!(self, Self::CallDropped { .. })
    }

    /// Returns true if this decision ends its execution.
    pub fn is_terminal(&self) -> bool {
        self.call().is_none()
    }
}
