//! Cancellation: an execution that has asked to be told is told; any other ends.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use crate::history::Decision;
use crate::replay::Core;
use crate::replay::core::Place;
use crate::replay::op::Delivered;

#[derive(Default)]
pub(crate) struct Cancel {
    requested: Option<String>,
    /// Whether the function has been told of the request.
    told: bool,
    /// Whether `ctx.cancelled()` was ever called.
    listening: bool,
    last_wait: u64,
    waits: BTreeMap<u64, Waker>,
}

impl Cancel {
    pub(in crate::replay) fn request(&mut self, reason: &str, to_wake: &mut Vec<Waker>) -> Delivered {
        if self.requested.is_some() {
            return Delivered::Stale;
        }
        self.requested = Some(reason.to_owned());
        if !self.listening {
            return Delivered::End(Decision::Cancelled { reason: reason.to_owned() });
        }
        to_wake.extend(std::mem::take(&mut self.waits).into_values());
        Delivered::Taken
    }

    /// The request, if the function has not been told of it.
    pub(in crate::replay) fn untold(&self) -> Option<String> {
        self.requested.clone().filter(|_| !self.told)
    }

    pub(in crate::replay) fn is_awaited(&self) -> bool {
        !self.waits.is_empty()
    }
}

/// Declares that the execution wants to be told; returns the key of a wait.
pub(crate) fn listen(core: &Core, place: Place) -> u64 {
    let Some(mut state) = core.in_turn(place) else { return 0 };
    state.cancel.listening = true;
    state.cancel.last_wait += 1;
    state.cancel.last_wait
}

/// The reason of the request, or waits for one.
pub(crate) fn poll(core: &Core, key: u64, context: &Context<'_>, place: Place) -> Poll<String> {
    let Some(mut state) = core.in_turn(place) else { return Poll::Pending };
    let cancel = &mut state.cancel;
    match &cancel.requested {
        Some(reason) => {
            cancel.told = true;
            Poll::Ready(reason.clone())
        }
        None => {
            cancel.waits.insert(key, context.waker().clone());
            Poll::Pending
        }
    }
}

/// Whether a cancel was requested; asking counts as wanting to be told.
pub(crate) fn requested(core: &Core, place: Place) -> Option<String> {
    let mut state = core.in_turn(place)?;
    state.cancel.listening = true;
    state.cancel.told = state.cancel.requested.is_some();
    state.cancel.requested.clone()
}

/// A wait is dropped.
pub(crate) fn drop_wait(core: &Core, key: u64) {
    core.lock().cancel.waits.remove(&key);
}

#[cfg(test)]
impl Cancel {
    /// How many wait for a request.
    pub(in crate::replay) fn waits(&self) -> usize {
        self.waits.len()
    }
}
