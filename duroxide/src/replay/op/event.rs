//! Waits for external events.

use std::task::{Context, Poll};

use crate::error::{ErrorCode, UnreadMessage};
use crate::history::Decision;
use crate::id::{CallId, MAX_NAME_LEN, check_text};
use crate::payload::Payload;
use crate::replay::op::{Decided, Op};
use crate::replay::{CallSite, Core, Fault, Ticket};

impl Core {
    /// Takes the event that belongs to the wait, or registers the wait.
    pub(crate) fn poll_event(
        &self,
        name: &str,
        call: CallId,
        context: &Context<'_>,
        wait: &mut Option<Ticket>,
        place: CallSite,
    ) -> Poll<(UnreadMessage, Payload)> {
        let Some(mut state) = self.lock_in_poll(place) else { return Poll::Pending };
        let is_new = wait.is_none();
        let now = state.now;
        match state.mailbox.poll(name, wait, context.waker(), now) {
            Some(event) => Poll::Ready(event),
            None => {
                // An event of an invalid name cannot be raised. A recorded wait for one may be raced with a timer.
                if is_new
                    && state.replaying.is_none()
                    && let Err(error) = check_text("event name", name, MAX_NAME_LEN)
                {
                    let fault = Fault::new(ErrorCode::InvalidId, error.to_string()).at(Some(place));
                    state.fault.get_or_insert(fault);
                } else if is_new {
                    let decision = Decision::EventAwaited { call, name: name.to_owned() };
                    state.decide(call, Decided { decision, payload: Payload::NULL, place: Some(place) });
                }
                Poll::Pending
            }
        }
    }

    /// Drops a wait that was polled and has not taken an event.
    pub(crate) fn drop_wait(&self, name: &str, call: CallId, wait: Ticket) {
        let Some(mut state) = self.lock_for_drop() else { return };
        let woken = state.mailbox.drop_wait(name, wait);
        state.forget(call, Op::Event);
        drop(state);
        if let Some(next) = woken {
            next.wake();
        }
    }
}

pub(in crate::replay) fn describe(call: CallId, name: &str) -> String {
    format!("call {call}: wait for event {name:?}")
}
