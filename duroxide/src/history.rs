//! The events of one execution: the only source of truth for its state.
//!
//! A history is a sequence of steps. Each step begins with one [`Input`], something that came in, and goes on with the
//! [`Decision`]s that the function took when it was polled with it.

use std::collections::BTreeMap;
use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{CallId, EventId, ExecutionId, InstanceId};
use crate::payload::Payload;
use crate::policy::ActivityOptions;

/// The newest format of stored events and messages that this version writes and reads.
pub(crate) const FORMAT: u16 = 1;

/// Labels or headers: short texts by name, sorted.
pub type TextMap = BTreeMap<String, String>;

/// One event of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its position, from 1 without gaps.
    pub id: EventId,
    /// When it was recorded: by the clock of the node that committed it, never earlier than the event before it.
    pub time: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The value that belongs to it: an input, a result, an error; `null` where there is none.
    pub payload: Payload,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// Something came in.
    Input(Input),
    /// The function decided something.
    Decision(Decision),
}

/// What comes in: each one is a message first, and an event once a turn has delivered it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Input {
    /// The execution begins. Payload: its input.
    Started(Started),
    /// An activity returned `Ok`. Payload: its output.
    ActivityCompleted {
        /// The call that scheduled it.
        call: CallId,
    },
    /// An activity came to its end without a result. Payload: its error, where it has one.
    ActivityFailed {
        /// The call that scheduled it.
        call: CallId,
        /// Why.
        failure: Failure,
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
    },
    /// A child returned `Ok`. Payload: its output.
    ChildCompleted {
        /// The call that started it.
        call: CallId,
    },
    /// A child came to its end without a result. Payload: its error, where it has one.
    ChildFailed {
        /// The call that started it.
        call: CallId,
        /// Why.
        failure: Failure,
    },
    /// A detached start was carried out.
    StartAccepted {
        /// The call that asked for it.
        call: CallId,
    },
    /// A child or a detached start could not be started.
    StartRejected {
        /// The call that asked for it.
        call: CallId,
        /// Why.
        reason: String,
    },
    /// Somebody wants this execution to be cancelled.
    CancelRequested {
        /// Why, in the words of who asked.
        reason: String,
        /// The call that asks because nobody waits for it any more: it is heard only by the child that it started, and not
        /// by an instance of the same id. `None`: somebody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
    /// Its parent has ended, and wants it to be terminated.
    TerminateRequested {
        /// Why.
        reason: String,
        /// As in [`CancelRequested`](Self::CancelRequested).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
}

/// How an execution begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The name of the orchestration.
    pub name: String,
    /// Its version. `None` only in a message: the first turn pins the latest that its node has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where its random numbers come from.
    pub seed: u64,
    /// Who waits for its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Headers given at the start: its activities and children get them, too.
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub headers: TextMap,
    /// Labels given at the start.
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub labels: TextMap,
}

/// The call of the parent that a child answers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent's execution.
    pub execution: ExecutionId,
    /// The call in it.
    pub call: CallId,
}

/// What the function decides in a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Decision {
    /// Schedule an activity. Payload: its input.
    ActivityScheduled(ActivityScheduled),
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
    ChildScheduled(ChildScheduled),
    /// A call whose values are refused: it fails at once.
    CallRejected {
        /// The call.
        call: CallId,
        /// What the call was for.
        operation: String,
        /// Why it is refused.
        reason: String,
    },
    /// A pending call was dropped; its outcome, should there be one, is discarded.
    CallDropped {
        /// The call.
        call: CallId,
    },
    /// The function returned `Ok`. Payload: its output. The last event of its history, like all that follow here.
    Completed,
    /// The function returned `Err` or panicked. Payload: its error, where it has one.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The execution was cancelled, and did not ask to be told.
    Cancelled {
        /// Why, in the words of who asked.
        reason: String,
    },
    /// An operator ended the execution.
    Terminated {
        /// Why, in the words of who asked.
        reason: String,
    },
    /// The instance goes on as a new execution. Payload: the input of that.
    ContinuedAsNew {
        /// The version to go on with. `None`: the latest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
    },
}

/// An activity to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivityScheduled {
    /// The call.
    pub call: CallId,
    /// The name of the activity.
    pub name: String,
    /// Nodes that serve this tag may run it. `None`: every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Whether the activity goes on when the call is dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// Retry and timeouts. Not compared on replay: they may be tuned while instances run.
    #[serde(default, skip_serializing_if = "ActivityOptions::is_default")]
    pub options: ActivityOptions,
}

/// An orchestration to be started by another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildScheduled {
    /// The call.
    pub call: CallId,
    /// The name of the orchestration.
    pub name: String,
    /// Its version. `None`: the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The id of the new instance.
    pub instance: InstanceId,
    /// Whether it answers to nobody: the call is done once it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// What becomes of it when its parent ends first. Not compared on replay.
    #[serde(default)]
    pub close: ClosePolicy,
}

/// What becomes of a child when nobody waits for it any more: its parent ends, in whichever way, or drops the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClosePolicy {
    /// It is asked to cancel.
    #[default]
    Cancel,
    /// It is terminated.
    Terminate,
    /// It goes on.
    Abandon,
}

/// Why a call or an execution has no result. Where user code gave an error value, that is the payload beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Failure {
    /// User code returned `Err`.
    Application,
    /// User code panicked.
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// A declared time limit passed.
    TimedOut {
        /// Which one.
        limit: Timeout,
    },
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It was terminated by an operator.
    Terminated {
        /// Why.
        reason: String,
    },
    /// A value that was given for it is refused.
    Rejected {
        /// Why.
        reason: String,
    },
}

/// The time limits of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Timeout {
    /// One attempt took too long.
    StartToClose,
    /// All attempts together, with the waits between them, took too long.
    ScheduleToClose,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartToClose => "one attempt took longer than its start-to-close limit",
            Self::ScheduleToClose => "all attempts together took longer than their schedule-to-close limit",
        })
    }
}

impl Input {
    /// An external event without headers.
    pub fn raised(name: impl Into<String>) -> Self {
        Self::EventRaised { name: name.into(), headers: TextMap::new() }
    }

    /// The call that this answers, if it answers one.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Self::ActivityCompleted { call }
            | Self::ActivityFailed { call, .. }
            | Self::TimerFired { call }
            | Self::ChildCompleted { call }
            | Self::ChildFailed { call, .. }
            | Self::StartAccepted { call }
            | Self::StartRejected { call, .. } => Some(*call),
            Self::Started(_)
            | Self::EventRaised { .. }
            | Self::CancelRequested { .. }
            | Self::TerminateRequested { .. } => None,
        }
    }
}

impl Decision {
    /// The call that this is about; `None` for the end of the execution.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Self::ActivityScheduled(ActivityScheduled { call, .. })
            | Self::ChildScheduled(ChildScheduled { call, .. })
            | Self::TimerCreated { call, .. }
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

    /// Whether this ends its execution.
    pub fn is_terminal(&self) -> bool {
        self.call().is_none()
    }
}
