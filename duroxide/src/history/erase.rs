//! The texts and values of events that users have chosen, for their erasure.
//!
//! Names, times, ids, labels, places and the authors of requests are the structure, which stays.

use super::{Decision, EndRequest, Failure, Input, Started, TextMap};
use crate::id::AuditId;
use crate::payload::erased::erase_text;

impl Input {
    /// Returns true if the payload of this input is a value, even if it is `null`.
    pub(crate) fn has_value(&self) -> bool {
        match self {
            Self::Started(_)
            | Self::ActivityCompleted { .. }
            | Self::ChildCompleted { .. }
            | Self::EventRaised { .. }
            | Self::ActivityFailed { failure: Failure::Application, .. }
            | Self::ChildFailed { failure: Failure::Application, .. } => true,
            Self::ActivityFailed { .. }
            | Self::ChildFailed { .. }
            | Self::TimerFired { .. }
            | Self::EventDropped { .. }
            | Self::StartAccepted { .. }
            | Self::StartRejected { .. }
            | Self::CancelRequested { .. }
            | Self::TerminateRequested { .. } => false,
        }
    }

    /// Replaces the texts by tombstones. Returns true if there were any.
    pub(crate) fn erase_texts(&mut self, receipt: AuditId) -> bool {
        match self {
            Self::Started(started) => erase_start(started, receipt),
            Self::ActivityFailed { failure, .. } | Self::ChildFailed { failure, .. } => erase_failure(failure, receipt),
            Self::EventRaised { headers, .. } => erase_values(headers, receipt),
            Self::StartRejected { reason, .. }
            | Self::CancelRequested { reason, .. }
            | Self::TerminateRequested { reason, .. } => erase_text(reason, receipt),
            Self::ActivityCompleted { .. }
            | Self::TimerFired { .. }
            | Self::EventDropped { .. }
            | Self::ChildCompleted { .. }
            | Self::StartAccepted { .. } => false,
        }
    }
}

impl Decision {
    /// As [`Input::has_value`]. The end of an execution counts as one with a value, so that it names the receipt.
    pub(crate) fn has_value(&self) -> bool {
        match self {
            Self::ActivityScheduled(_)
            | Self::ChildScheduled(_)
            | Self::Completed
            | Self::Failed { .. }
            | Self::Cancelled { .. }
            | Self::Terminated { .. }
            | Self::ContinuedAsNew { .. } => true,
            Self::TimerCreated { .. }
            | Self::EventAwaited { .. }
            | Self::CallRejected { .. }
            | Self::CallDropped { .. } => false,
        }
    }

    /// As [`Input::erase_texts`].
    pub(crate) fn erase_texts(&mut self, receipt: AuditId) -> bool {
        match self {
            Self::Failed { failure } => erase_failure(failure, receipt),
            Self::CallRejected { reason, .. } | Self::Cancelled { reason } | Self::Terminated { reason, .. } => {
                erase_text(reason, receipt)
            }
            Self::ActivityScheduled(_)
            | Self::TimerCreated { .. }
            | Self::EventAwaited { .. }
            | Self::ChildScheduled(_)
            | Self::CallDropped { .. }
            | Self::Completed
            | Self::ContinuedAsNew { .. } => false,
        }
    }
}

fn erase_start(started: &mut Started, receipt: AuditId) -> bool {
    let headers = erase_values(&mut started.headers, receipt);
    let request = started.request.as_mut().is_some_and(|request| match request {
        EndRequest::CancelBeforeStart { reason, .. }
        | EndRequest::Cancel { reason, .. }
        | EndRequest::Terminate { reason, .. } => erase_text(reason, receipt),
    });
    headers || request
}

fn erase_values(texts: &mut TextMap, receipt: AuditId) -> bool {
    let mut has_texts = false;
    texts.values_mut().for_each(|text| has_texts |= erase_text(text, receipt));
    has_texts
}

fn erase_failure(failure: &mut Failure, receipt: AuditId) -> bool {
    match failure {
        Failure::Application => false,
        Failure::Panicked { message: text }
        | Failure::Cancelled { reason: text }
        | Failure::Terminated { reason: text }
        | Failure::Rejected { reason: text } => erase_text(text, receipt),
        Failure::TimedOut { details, .. } => {
            let last = details.as_mut().and_then(|details| details.last.as_mut());
            last.is_some_and(|last| erase_failure(last, receipt))
        }
    }
}
