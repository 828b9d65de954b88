//! Durable timers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::call::PendingCall;
use crate::replay::op::timer::{self, Due};
use crate::replay::{CallSite, Core};

/// A durable timer: resolves when it is due, even across restarts. Dropping it cancels it.
///
/// The timer is created when it is first polled, or by [`start`](Sleep::start); a duration counts from then.
#[must_use = "a timer is created when it is awaited, or by `.start()`"]
pub struct Sleep {
    call: PendingCall,
    due: Due,
}

impl Sleep {
    pub(crate) fn new(core: &Arc<Core>, due: Due, place: CallSite) -> Self {
        Self { call: PendingCall::new(core, place), due }
    }

    /// Creates the timer now, and returns it.
    pub fn start(mut self) -> Self {
        self.schedule();
        self
    }

    fn schedule(&mut self) {
        let due = self.due;
        self.call.schedule(|core, id, place| timer::create(core, id, due, place));
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.schedule();
        this.call.poll(context).map(|_| ())
    }
}
