//! Activity calls.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::call::PendingCall;
use crate::error::CallError;
use crate::history::ActivityScheduled;
use crate::id::{CallId, MAX_NAME_LEN, check_text};
use crate::payload::{Payload, PayloadError};
use crate::policy::{ActivityOptions, RetryPolicy};
use crate::replay::{CallSite, Core, op};

/// A call of an activity: set its options, then `.await` it.
///
/// The activity is scheduled when the call is first polled, or by [`start`](ActivityCall::start). Dropping the call
/// before it has an outcome cancels the activity, unless it is [`detached`](ActivityCall::detached).
///
/// # Errors
/// Resolves to a [`CallError`]: the activity's own error, or the reason why there is none.
///
/// # Cancel safety
/// Dropping the call cancels the activity. The effects that the activity has had so far are not undone.
#[must_use = "an activity is scheduled when its call is awaited, or by `.start()`; dropping the call cancels the activity, \
              unless it is `.detached()`: then write `let _ = ..`"]
pub struct ActivityCall<T, E> {
    call: PendingCall,
    spec: Spec,
    result: PhantomData<fn() -> Result<T, E>>,
}

struct Spec {
    name: String,
    input: Result<Payload, PayloadError>,
    options: ActivityOptions,
    tag: Option<String>,
    detached: bool,
}

impl<T, E> ActivityCall<T, E> {
    pub(crate) fn new(
        core: &Arc<Core>,
        name: &str,
        input: Result<Payload, PayloadError>,
        options: ActivityOptions,
        place: CallSite,
    ) -> Self {
        let spec = Spec { name: name.to_owned(), input, options, tag: None, detached: false };
        Self { call: PendingCall::new(core, place), spec, result: PhantomData }
    }

    /// Sets the retry policy. Default: the one that the activity declares, else one attempt.
    #[track_caller]
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.with(Location::caller(), |spec| spec.options.retry = Some(policy))
    }

    /// Limits one attempt, from its start. Default: the limit that the activity declares, else none.
    #[track_caller]
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(Location::caller(), |spec| spec.options.start_to_close = Some(limit))
    }

    /// Limits all attempts together, from scheduling. Default: the limit that the activity declares, else none.
    ///
    /// If the next attempt could not begin within the limit, the call ends at once. Its time-out contains the error of the
    /// last attempt; see [`TimedOut`](crate::error::TimedOut).
    #[track_caller]
    pub fn schedule_to_close(self, limit: Duration) -> Self {
        self.with(Location::caller(), |spec| spec.options.schedule_to_close = Some(limit))
    }

    /// Runs the activity only on nodes that serve this tag: nodes that list it in `RuntimeBuilder::tags`, and nodes
    /// that list no tags and so serve all.
    #[track_caller]
    pub fn tag(self, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        self.with(Location::caller(), |spec| spec.tag = Some(tag))
    }

    /// Lets the activity continue when this call is dropped, or when the orchestration ends first.
    #[track_caller]
    pub fn detached(self) -> Self {
        self.with(Location::caller(), |spec| spec.detached = true)
    }

    /// Schedules the activity now, and returns the pending call.
    pub fn start(mut self) -> Self {
        self.schedule();
        self
    }

    fn with(mut self, place: CallSite, change: impl FnOnce(&mut Spec)) -> Self {
        if self.call.may_change(place) {
            change(&mut self.spec);
        }
        self
    }

    fn schedule(&mut self) {
        let spec = &mut self.spec;
        self.call.schedule(|core, id, place| spec.schedule(core, id, place));
    }
}

impl Spec {
    fn schedule(&mut self, core: &Core, call: CallId, place: CallSite) {
        match self.check(core, call) {
            Ok(input) => {
                let Self { name, options, tag, detached, .. } = self;
                let activity = ActivityScheduled {
                    call,
                    name: name.clone(),
                    tag: tag.take(),
                    detached: *detached,
                    options: std::mem::take(options),
                };
                op::activity::schedule(core, activity, input, place);
            }
            Err(reason) => core.reject(call, &format!("activity {:?}", self.name), reason, place),
        }
    }

    fn check(&mut self, core: &Core, call: CallId) -> Result<Payload, String> {
        check_text("activity name", &self.name, MAX_NAME_LEN).map_err(|e| e.to_string())?;
        if let Some(tag) = &self.tag {
            check_text("tag", tag, MAX_NAME_LEN).map_err(|e| e.to_string())?;
        }
        let input = std::mem::replace(&mut self.input, Ok(Payload::NULL)).map_err(|e| format!("its input: {e}"))?;
        core.check_size(call, "its input", &input)?;
        Ok(input)
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Future for ActivityCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.schedule();
        match this.call.poll(context) {
            Poll::Ready(outcome) => {
                this.call.decode(outcome, || format!("the outcome of activity {:?}", this.spec.name))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
