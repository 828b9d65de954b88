//! Calls of an orchestration from another: as a child, or detached.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use super::call::PendingCall;
use crate::error::CallError;
use crate::history::{ChildScheduled, Failure};
use crate::id::{CallId, InstanceId, MAX_NAME_LEN, check_text, parse_version};
use crate::payload::{Payload, PayloadError};
use crate::policy::ClosePolicy;
use crate::replay::{CallSite, Core, Failed, op};

/// A call of an orchestration as a child: set its options, then `.await` it.
///
/// The child is started when the call is first polled, or by [`start`](ChildCall::start). If the call is dropped before
/// it has an outcome, or the parent ends, the child is closed by its [`on_parent_close`](ChildCall::on_parent_close)
/// policy; by default it is cancelled.
///
/// # Errors
/// Resolves to a [`CallError`]: the child's own error, or the reason why there is none; [`CallError::Rejected`] if the
/// id is taken.
///
/// # Cancel safety
/// Dropping the call cancels the child, which may compensate.
#[must_use = "a child is started when its call is awaited, or by `.start()`; dropping the call closes the child by its \
              `.on_parent_close(..)` policy"]
pub struct ChildCall<T, E> {
    call: PendingCall,
    spec: Spec,
    result: PhantomData<fn() -> Result<T, E>>,
}

/// A detached start: resolves to the id of the new instance once it exists. Dropping it does not undo the start.
///
/// # Errors
/// Resolves to [`CallError::Rejected`] if the id is taken or a value is refused.
#[must_use = "the orchestration is started when this is awaited, or by `.start()`; to ignore the confirmation write \
              `let _ = ..`"]
pub struct DetachedStart {
    call: PendingCall,
    spec: Spec,
}

struct Spec {
    name: String,
    input: Result<Payload, PayloadError>,
    id: Option<String>,
    instance: Option<InstanceId>,
    version: Option<String>,
    close: ClosePolicy,
}

impl<T, E> ChildCall<T, E> {
    pub(crate) fn new(core: &Arc<Core>, name: &str, input: Result<Payload, PayloadError>, place: CallSite) -> Self {
        let spec = Spec {
            name: name.to_owned(),
            input,
            id: None,
            instance: None,
            version: None,
            close: ClosePolicy::default(),
        };
        Self { call: PendingCall::new(core, place), spec, result: PhantomData }
    }

    /// Sets the id of the child. Default: an id derived from the parent's execution and this call, which is never
    /// taken.
    #[track_caller]
    pub fn id(self, id: impl Into<String>) -> Self {
        let id = id.into();
        self.with(Location::caller(), |spec| spec.id = Some(id))
    }

    /// Sets the version, as semver. Default: the latest version that is registered on the node that starts the child.
    #[track_caller]
    pub fn version(self, version: impl Into<String>) -> Self {
        let version = version.into();
        self.with(Location::caller(), |spec| spec.version = Some(version))
    }

    /// Sets the policy that closes the child when its parent ends first, or drops this call. Default: the child is
    /// cancelled.
    #[track_caller]
    pub fn on_parent_close(self, policy: ClosePolicy) -> Self {
        self.with(Location::caller(), |spec| spec.close = policy)
    }

    /// Starts an independent instance instead of a child: the parent neither waits for it nor closes it.
    #[track_caller]
    pub fn detached(self) -> DetachedStart {
        let Self { call, spec, .. } = self.with(Location::caller(), |_| ());
        DetachedStart { call, spec }
    }

    /// Starts the child now, and returns the pending call.
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
        self.call.schedule(|core, id, place| spec.schedule(core, id, false, place));
    }
}

impl DetachedStart {
    /// Starts the instance now, and returns the pending confirmation, which may be dropped.
    pub fn start(mut self) -> Self {
        self.schedule();
        self
    }

    fn schedule(&mut self) {
        let spec = &mut self.spec;
        self.call.schedule(|core, id, place| spec.schedule(core, id, true, place));
    }
}

impl Spec {
    fn schedule(&mut self, core: &Core, call: CallId, detached: bool, place: CallSite) {
        match self.check(core, call, detached) {
            Ok((child, input)) => {
                self.instance = Some(child.instance_in(&core.execution));
                op::child::schedule(core, child, input, place);
            }
            Err(reason) => core.reject(call, &format!("orchestration {:?}", self.name), reason, place),
        }
    }

    fn check(&mut self, core: &Core, call: CallId, detached: bool) -> Result<(ChildScheduled, Payload), String> {
        check_text("orchestration name", &self.name, MAX_NAME_LEN).map_err(|e| e.to_string())?;
        let instance = match &self.id {
            Some(id) => Some(InstanceId::new(id).map_err(|e| e.to_string())?),
            None => core.recorded_derived_child(call),
        };
        let version = self.version.take().map(|text| parse_version(&text)).transpose().map_err(|e| e.to_string())?;
        let input = std::mem::replace(&mut self.input, Ok(Payload::NULL)).map_err(|e| format!("its input: {e}"))?;
        core.check_size(call, "its input", &input)?;
        let child = ChildScheduled { call, name: self.name.clone(), version, instance, detached, close: self.close };
        Ok((child, input))
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Future for ChildCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.schedule();
        match this.call.poll(context) {
            Poll::Ready(outcome) => {
                this.call.decode(outcome, || format!("the outcome of orchestration {:?}", this.spec.name))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Future for DetachedStart {
    type Output = Result<InstanceId, CallError<std::convert::Infallible>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.schedule();
        let Poll::Ready(outcome) = this.call.poll(context) else { return Poll::Pending };
        let (reason, callee) = match (outcome, this.spec.instance.clone()) {
            (Ok(_), Some(instance)) => return Poll::Ready(Ok(instance)),
            (Err(Failed { failure, callee, .. }), _) => match failure {
                Failure::Rejected { reason } => (reason, callee),
                other => (format!("{other:?}"), callee),
            },
            (Ok(_), None) => ("it was never started".to_owned(), None),
        };
        Poll::Ready(Err(CallError::Rejected { reason, callee }))
    }
}
