//! Continue-as-new: the same instance, a new execution with an empty history.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::ErrorCode;
use crate::id::{CallId, parse_version};
use crate::payload::{Payload, PayloadError};
use crate::replay::{CallSite, Core, Fault, op};

/// Ends the execution when it is awaited, and starts the next one. It never resolves. Its output type is the return
/// type of the function, so it can be the last expression.
///
/// Activities and timers of the execution are cancelled, and children are closed by their policy. Unread events pass to
/// the next execution, in order.
#[must_use = "the execution continues as new when this is awaited: `return` the awaited result"]
pub struct ContinueAsNew<R> {
    core: Arc<Core>,
    place: CallSite,
    input: Option<Result<Payload, PayloadError>>,
    version: Option<String>,
    result: PhantomData<fn() -> R>,
}

impl<R> ContinueAsNew<R> {
    pub(crate) fn new(core: &Arc<Core>, input: Result<Payload, PayloadError>, place: CallSite) -> Self {
        Self { core: core.clone(), place, input: Some(input), version: None, result: PhantomData }
    }

    /// Sets the version of the next execution, as semver. Default: the latest that is registered.
    #[track_caller]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        if self.input.is_none() {
            self.core.fail(Fault::late_option(Location::caller()));
        }
        self.version = Some(version.into());
        self
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(input) = self.input.take() else { return Ok(()) };
        let input = input.map_err(|e| format!("the input of the next execution: {e}"))?;
        self.core.check_size(CallId(0), "the input of the next execution", &input)?;
        let version = self.version.take().map(|text| parse_version(&text)).transpose().map_err(|e| e.to_string())?;
        op::continue_as_new::end(&self.core, version, input, self.place);
        Ok(())
    }
}

impl<R> Future for ContinueAsNew<R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        if let Err(reason) = this.end() {
            // Continue-as-new has no error for user code, so a refused value suspends the instance until other code is
            // deployed.
            this.core.fail(Fault::new(ErrorCode::PayloadRefused, reason).at(Some(this.place)));
        }
        Poll::Pending
    }
}
