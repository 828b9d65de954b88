//! Cancellation: a function that has called `ctx.cancelled()` receives the request; the execution of any other ends.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use crate::history::Decision;
use crate::replay::op::Delivered;
use crate::replay::{CallSite, Core};

/// A request to cancel that the function has not seen.
#[derive(Debug, Clone)]
pub(crate) struct UnseenCancel {
    pub(crate) reason: String,
    pub(crate) by: Option<String>,
}

impl UnseenCancel {
    fn new(reason: &str, by: Option<&str>) -> Self {
        Self { reason: reason.to_owned(), by: by.map(str::to_owned) }
    }
}

#[derive(Default)]
pub(crate) struct Cancel {
    requested: Option<UnseenCancel>,
    /// True once the function has seen the request.
    seen: bool,
    /// True once the function listens for a request, for example by `ctx.cancelled()`.
    listening: bool,
    last_wait: u64,
    waits: BTreeMap<u64, Waker>,
}

impl Cancel {
    pub(in crate::replay) fn request(&mut self, reason: &str, by: Option<&str>, to_wake: &mut Vec<Waker>) -> Delivered {
        if self.requested.is_some() {
            return Delivered::Stale;
        }
        self.requested = Some(UnseenCancel::new(reason, by));
        if !self.listening {
            return Delivered::End(Decision::Cancelled { reason: reason.to_owned() });
        }
        to_wake.extend(std::mem::take(&mut self.waits).into_values());
        Delivered::Applied
    }

    /// Makes a request before the first poll of the function.
    pub(in crate::replay) fn request_at_start(&mut self, reason: &str, by: Option<&str>) {
        self.requested = Some(UnseenCancel::new(reason, by));
    }

    /// Returns the end of an execution that has run to its first wait, or to the next execution, and does not listen for
    /// the request that it began with.
    pub(in crate::replay) fn unheeded(&self) -> Option<Decision> {
        let request = self.requested.as_ref().filter(|_| !self.listening)?;
        Some(Decision::Cancelled { reason: request.reason.clone() })
    }

    /// Returns the request if the function has not seen it.
    pub(in crate::replay) fn unseen(&self) -> Option<UnseenCancel> {
        self.requested.clone().filter(|_| !self.seen)
    }

    pub(in crate::replay) fn is_awaited(&self) -> bool {
        !self.waits.is_empty()
    }
}

/// Declares that the function listens for a request; returns the key of a wait.
pub(crate) fn listen(core: &Core, place: CallSite) -> u64 {
    let Some(mut state) = core.lock_in_poll(place) else { return 0 };
    state.cancel.listening = true;
    state.cancel.last_wait += 1;
    state.cancel.last_wait
}

/// Returns the reason of the request, or stores the waker of the wait.
pub(crate) fn poll(core: &Core, key: u64, context: &Context<'_>, place: CallSite) -> Poll<String> {
    let Some(mut state) = core.lock_in_poll(place) else { return Poll::Pending };
    let cancel = &mut state.cancel;
    match &cancel.requested {
        Some(request) => {
            cancel.seen = true;
            Poll::Ready(request.reason.clone())
        }
        None => {
            cancel.waits.insert(key, context.waker().clone());
            Poll::Pending
        }
    }
}

/// Returns the reason of the request, if there is one. Asking counts as listening.
pub(crate) fn requested(core: &Core, place: CallSite) -> Option<String> {
    let mut state = core.lock_in_poll(place)?;
    state.cancel.listening = true;
    state.cancel.seen = state.cancel.requested.is_some();
    state.cancel.requested.as_ref().map(|request| request.reason.clone())
}

/// Drops a wait.
pub(crate) fn drop_wait(core: &Core, key: u64) {
    core.lock().cancel.waits.remove(&key);
}

#[cfg(test)]
impl Cancel {
    /// Returns the number of waits for a request.
    pub(in crate::replay) fn waits(&self) -> usize {
        self.waits.len()
    }
}
