//! The durable operations, one file each: the decision that an operation records, and its comparison on replay.

pub(crate) mod activity;
pub(crate) mod cancel;
pub(crate) mod child;
pub(crate) mod continue_as_new;
pub(crate) mod event;
pub(super) mod random;
pub(crate) mod timer;

use std::task::Waker;

use super::pending::CallFacts;
use super::{CallSite, Outcome};
use crate::history::{Decision, Input};
use crate::id::{CallId, InstanceId};
use crate::payload::Payload;
use crate::policy::ClosePolicy;

/// The kind of a call, with the data that is needed to close it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Activity { detached: bool, deadline: bool },
    Timer,
    Event,
    Child { instance: InstanceId, close: ClosePolicy },
    DetachedStart,
    Refused,
}

impl Op {
    /// Returns true if the work of the call continues when its future is dropped.
    pub(crate) fn is_detached(&self) -> bool {
        matches!(self, Self::Activity { detached: true, .. } | Self::DetachedStart)
    }

    /// Returns true if the work of the call is started even when its future is dropped in the step that scheduled it.
    pub(super) fn outlives_its_step(&self) -> bool {
        self.is_detached() || matches!(self, Self::Child { close: ClosePolicy::Abandon, .. })
    }

    pub(super) fn is_answered_by(&self, input: &Input) -> bool {
        match self {
            Self::Activity { .. } => matches!(input, Input::ActivityCompleted { .. } | Input::ActivityFailed { .. }),
            Self::Timer => matches!(input, Input::TimerFired { .. }),
            Self::Child { .. } => {
                matches!(input, Input::ChildCompleted { .. } | Input::ChildFailed { .. } | Input::StartRejected { .. })
            }
            Self::DetachedStart => matches!(input, Input::StartAccepted { .. } | Input::StartRejected { .. }),
            Self::Event | Self::Refused => false,
        }
    }
}

/// A scheduled call.
pub(crate) struct Call {
    pub(super) op: Op,
    pub(super) facts: CallFacts,
    pub(super) outcome: Option<Outcome>,
    pub(super) waker: Option<Waker>,
    /// The future of a detached call was dropped. Its outcome is still recorded.
    pub(super) abandoned: bool,
}

impl Call {
    pub(super) fn new(op: Op, facts: CallFacts) -> Self {
        Self { op, facts, outcome: None, waker: None, abandoned: false }
    }
}

/// A decision of the running step.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    pub(crate) payload: Payload,
    pub(crate) place: Option<CallSite>,
}

/// The effect of an input on the execution.
pub(super) enum Delivered {
    /// None: the input answers a call that is not open.
    Stale,
    /// The function must be called, to create its future.
    Begin,
    /// A call has received its outcome.
    Resolved(CallId, Op),
    /// The state has changed; the futures that wait for this input are woken.
    Applied,
    /// The execution ends without being polled.
    End(Decision),
}
