//! Faults: problems of the code or of stored data that suspend an execution. They are never its outcome.

use crate::error::{ErrorCode, Suspension, UnreadMessage};
use crate::id::EventId;
use crate::payload::PayloadError;

use super::direct_call::Callee;
use super::{CallSite, Function};

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

    pub(super) fn not_durable(function: &Function, last: Option<CallSite>) -> Self {
        Self::after_last_call(
            ErrorCode::NonDurableWait,
            format!("{function} waits for something that is not durable"),
            function,
            last,
        )
    }

    pub(super) fn direct_call(
        caller: &Function,
        callee: &Callee,
        place: Option<CallSite>,
        last: Option<CallSite>,
    ) -> Self {
        let Callee { kind, name, handle } = callee;
        let problem = format!(
            "{caller} calls the {kind} {name:?} as a function, which is not recorded: call it with \
             `{handle}::call(&ctx, ..)`"
        );
        match place {
            Some(_) => Self::new(ErrorCode::DirectCall, problem).at(place),
            None => Self::after_last_call(ErrorCode::DirectCall, problem, caller, last),
        }
    }

    /// Reports a problem whose own place is not known: the place is that of the last durable call, or of the function.
    fn after_last_call(code: ErrorCode, problem: String, function: &Function, last: Option<CallSite>) -> Self {
        match last {
            Some(_) => Self::new(code, format!("{problem}; the place is that of its last durable call")).at(last),
            None => {
                let mut fault = Self::new(code, format!("{problem}, before its first durable call"));
                fault.0.place = Some(function.place().to_owned());
                fault
            }
        }
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

    /// Reports an external event that cannot be read. An operator may remove it.
    pub(crate) fn unreadable_event(name: &str, event: UnreadMessage, error: &PayloadError, place: CallSite) -> Self {
        let mut fault = Self::unreadable_outcome(&format!("event {name:?}"), error, place);
        fault.0.unread = Some(event);
        fault
    }

    pub(crate) fn unreadable_outcome(subject: &str, error: &PayloadError, place: CallSite) -> Self {
        Self::new(ErrorCode::UnreadableResult, format!("{subject}: {error}")).at(Some(place))
    }
}
