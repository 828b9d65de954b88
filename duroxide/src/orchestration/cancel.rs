//! Waiting for a cancel request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::replay::{CallSite, Core, op::cancel};

/// Resolves to the reason of a cancel request; see
/// [`OrchestrationContext::cancelled`](super::OrchestrationContext::cancelled).
#[must_use = "a cancellation is waited for when this is awaited"]
pub struct Cancelled {
    core: Arc<Core>,
    key: u64,
    place: CallSite,
}

impl Cancelled {
    pub(crate) fn new(core: &Arc<Core>, place: CallSite) -> Self {
        Self { core: core.clone(), key: cancel::listen(core, place), place }
    }
}

impl Future for Cancelled {
    type Output = String;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<String> {
        cancel::poll(&self.core, self.key, context, self.place)
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        cancel::drop_wait(&self.core, self.key);
    }
}
