//! Faults: problems of the code or of stored data that suspend an execution. They are never its outcome.

use crate::error::{ErrorCode, Suspension};
use crate::id::EventId;
use crate::payload::PayloadError;

use super::CallSite;

/// The reason to suspend an instance. The node adds the build id and stores it.
#[derive(Debug, Clone)]
pub(crate) struct Fault(pub(crate) Box<Suspension>);

impl Fault {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Suspension::new(code, message)))
    }

    pub(crate) fn at(mut self, place: Option<CallSite>) -> Self {
        self.0.place = place.map(ToString::to_string);
        self
    }

    pub(super) fn mismatch(event: EventId, recorded: Option<String>, asked: Option<String>) -> Self {
        let message = "the decision of the code differs from the one in its history";
        let mut fault = Self::new(ErrorCode::Nondeterminism, message);
        fault.0.event = Some(event);
        fault.0.recorded = recorded;
        fault.0.asked = asked;
        fault
    }

    pub(super) fn left_over(event: EventId, recorded: String, ended: String) -> Self {
        let message = "the code ended before its history";
        let mut fault = Self::new(ErrorCode::HistoryLeftOver, message);
        fault.0.event = Some(event);
        fault.0.recorded = Some(recorded);
        fault.0.asked = Some(ended);
        fault
    }

    pub(super) fn not_durable(last: Option<CallSite>) -> Self {
        let message = match last {
            Some(_) => {
                "the orchestration waits for something that is not durable; the place is that of its last durable call"
            }
            None => "the orchestration waits for something that is not durable, before its first durable call",
        };
        Self::new(ErrorCode::NonDurableWait, message).at(last)
    }

    pub(super) fn outside_turn(place: CallSite) -> Self {
        let message = "the context of the orchestration is used outside of its turn, in another task or thread";
        Self::new(ErrorCode::ContextOutsideTurn, message).at(Some(place))
    }

    pub(crate) fn late_option(place: CallSite) -> Self {
        let message = "an option of a call is set after the call was polled for the first time";
        Self::new(ErrorCode::OptionsAfterPoll, message).at(Some(place))
    }

    pub(super) fn unreadable_input(error: &PayloadError) -> Self {
        Self::new(ErrorCode::UnreadableInput, format!("the input of the orchestration: {error}"))
    }

    pub(crate) fn unreadable_outcome(subject: &str, error: &PayloadError, place: CallSite) -> Self {
        Self::new(ErrorCode::UnreadableResult, format!("{subject}: {error}")).at(Some(place))
    }
}
