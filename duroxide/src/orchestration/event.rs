//! Waits for external events.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use crate::error::UnreadMessage;
use crate::id::CallId;
use crate::payload::Payload;
use crate::replay::{CallSite, Core, Fault, Ticket};

/// Waits for the next event of a type or of a name; see
/// [`OrchestrationContext::event`](super::OrchestrationContext::event). The event is consumed when the wait resolves: a
/// wait that is dropped consumes nothing.
#[must_use = "an event does nothing unless awaited"]
pub struct EventWait<T> {
    core: Arc<Core>,
    call: CallId,
    name: String,
    place: CallSite,
    /// Set from the first poll until the wait takes an event.
    wait: Option<Ticket>,
    done: bool,
    event: PhantomData<fn() -> T>,
}

impl<T> EventWait<T> {
    pub(crate) fn new(core: &Arc<Core>, name: &str, place: CallSite) -> Self {
        let call = core.claim(place);
        Self { core: core.clone(), call, name: name.to_owned(), place, wait: None, done: false, event: PhantomData }
    }
}

impl<T: DeserializeOwned> Future for EventWait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if this.done {
            return Poll::Pending;
        }
        match this.core.poll_event(&this.name, this.call, context, &mut this.wait, this.place) {
            Poll::Ready(event) => {
                this.done = true;
                decode(&this.core, &this.name, &event, this.place).map_or(Poll::Pending, Poll::Ready)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for EventWait<T> {
    fn drop(&mut self) {
        if let Some(wait) = self.wait {
            self.core.drop_wait(&self.name, self.call, wait);
        }
    }
}

/// Takes the oldest unread event of a name, if there is one.
pub(crate) fn try_event<T: DeserializeOwned>(core: &Core, name: &str, place: CallSite) -> Option<T> {
    let event = core.lock_in_poll(place)?.mailbox.take_one(name)?;
    decode(core, name, &event, place)
}

/// Takes all unread events of a name that do not belong to a pending wait.
pub(crate) fn drain<T: DeserializeOwned>(core: &Core, name: &str, place: CallSite) -> Vec<T> {
    let Some(mut state) = core.lock_in_poll(place) else { return Vec::new() };
    let events = state.mailbox.take_all(name);
    drop(state);
    events.iter().map_while(|event| decode(core, name, event, place)).collect()
}

fn decode<T: DeserializeOwned>(
    core: &Core,
    name: &str,
    (id, payload): &(UnreadMessage, Payload),
    place: CallSite,
) -> Option<T> {
    match payload.decode() {
        Ok(event) => Some(event),
        Err(error) => {
            core.fail(Fault::unreadable_event(name, *id, &error, place));
            None
        }
    }
}
