//! The common part of all durable calls.

use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use crate::error::{CallError, Callee, TimedOut};
use crate::history::{Failure, TimeoutDetails};
use crate::id::CallId;
use crate::payload::Payload;
use crate::policy::Timeout;
use crate::replay::{CallSite, Core, Failed, Fault, Outcome};

/// A call, from its creation to its outcome. Its id is claimed when it is built, and it is scheduled when it is first
/// polled.
pub(crate) struct PendingCall {
    pub(crate) core: Arc<Core>,
    pub(crate) id: CallId,
    pub(crate) place: CallSite,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Built,
    Scheduled,
    Done,
}

impl PendingCall {
    pub(crate) fn new(core: &Arc<Core>, place: CallSite) -> Self {
        Self { core: core.clone(), id: core.claim(place), place, stage: Stage::Built }
    }

    /// Returns true if options may still be set; reports the misuse otherwise.
    pub(crate) fn may_change(&self, place: CallSite) -> bool {
        if self.stage != Stage::Built {
            self.core.fail(Fault::late_option(place));
        }
        self.stage == Stage::Built
    }

    /// Schedules the call, unless it is scheduled already.
    pub(crate) fn schedule(&mut self, schedule: impl FnOnce(&Core, CallId, CallSite)) {
        if self.stage == Stage::Built {
            self.stage = Stage::Scheduled;
            schedule(&self.core, self.id, self.place);
        }
    }

    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Outcome> {
        if self.stage == Stage::Done {
            return Poll::Pending;
        }
        let outcome = self.core.poll(self.id, context, self.place);
        if outcome.is_ready() {
            self.stage = Stage::Done;
        }
        outcome
    }

    /// Decodes the outcome. An unreadable one suspends the instance.
    pub(crate) fn decode<T, E>(
        &self,
        outcome: Outcome,
        subject: impl FnOnce() -> String,
    ) -> Poll<Result<T, CallError<E>>>
    where
        T: DeserializeOwned,
        E: DeserializeOwned,
    {
        let decoded = match outcome {
            Ok(output) => output.decode().map(Ok),
            Err(Failed { failure, error, callee }) => call_error(failure, &error, callee).map(Err),
        };
        match decoded {
            Ok(result) => Poll::Ready(result),
            Err(error) => {
                self.core.fail(Fault::unreadable_outcome(&subject(), &error, self.place));
                Poll::Pending
            }
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.stage == Stage::Scheduled {
            self.core.drop_call(self.id);
        }
    }
}

/// Converts a recorded failure into the error that the caller receives.
pub(crate) fn call_error<E: DeserializeOwned>(
    failure: Failure,
    error: &Payload,
    callee: Option<Box<Callee>>,
) -> Result<CallError<E>, crate::payload::PayloadError> {
    Ok(match failure {
        Failure::Application => CallError::Failed(error.decode()?),
        Failure::Panicked { message } => CallError::Panicked { message, callee },
        Failure::TimedOut { limit, details } => CallError::TimedOut(timed_out(limit, details, error)?),
        Failure::Cancelled { reason } => CallError::Cancelled { reason, callee },
        Failure::Terminated { reason } => CallError::Terminated { reason, callee },
        Failure::Rejected { reason } => CallError::Rejected { reason, callee },
    })
}

fn timed_out<E: DeserializeOwned>(
    limit: Timeout,
    details: Option<Box<TimeoutDetails>>,
    error: &Payload,
) -> Result<TimedOut<E>, crate::payload::PayloadError> {
    let mut timed_out = TimedOut::new(limit);
    if let Some(details) = details {
        let TimeoutDetails { activity, after, attempts, last } = *details;
        (timed_out.activity, timed_out.after, timed_out.attempts) = (Some(activity), after, attempts);
        timed_out.last = last.map(|last| call_error(last, error, None)).transpose()?.map(Box::new);
    }
    Ok(timed_out)
}
