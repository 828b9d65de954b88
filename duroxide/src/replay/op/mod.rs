//! The durable operations: one file for each, with what it records and how it is compared.

pub(crate) mod activity;
pub(crate) mod cancel;
pub(crate) mod child;
pub(crate) mod continue_as_new;
pub(crate) mod timer;

use std::task::Waker;

use super::core::{Outcome, Place};
use crate::history::{ClosePolicy, Decision, Input};
use crate::id::{CallId, InstanceId};
use crate::payload::Payload;

/// What a call is for, as far as its end needs to know.
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
    /// Whether dropping the call leaves what it started alone.
    pub(crate) fn is_detached(&self) -> bool {
        matches!(self, Self::Activity { detached: true, .. } | Self::DetachedStart)
    }

    /// Whether what was started goes on when its call is dropped in the very step that has scheduled it.
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

/// A call that is scheduled.
pub(crate) struct Call {
    pub(super) op: Op,
    pub(super) outcome: Option<Outcome>,
    pub(super) waker: Option<Waker>,
    /// Its future is gone, but its outcome still belongs into history: the call is detached.
    pub(super) abandoned: bool,
}

impl Call {
    pub(super) fn new(op: Op) -> Self {
        Self { op, outcome: None, waker: None, abandoned: false }
    }
}

/// A decision of the running step.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) what: Decision,
    pub(crate) payload: Payload,
    pub(crate) place: Option<Place>,
}

/// What an input means for the execution.
pub(super) enum Delivered {
    /// Nothing: it answers a call that is not open (any more).
    Stale,
    /// The function is to be called.
    Begin,
    /// A call has its outcome.
    Resolved(CallId, Op),
    /// The state has changed; whoever waits was woken.
    Taken,
    /// The execution ends without being polled.
    End(Decision),
}
