//! The timers of the loop.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::clock::{Clock, Timestamp};

/// The timers of the loop. Each of them is removed when it has fired.
#[derive(Default)]
pub(super) struct Time {
    /// The earliest time at which a timer of an instance, or work at the provider, becomes due.
    due: Option<(Timestamp, BoxFuture<'static, ()>)>,
    /// The timer that has fired, until the next one is set. A virtual clock stops until it is dropped, and the node holds
    /// that clock only when it handles the event.
    fired: Option<BoxFuture<'static, ()>>,
    /// The check for turns that do not return. It stays set when they have returned, since setting it takes longer than
    /// most turns.
    turn_check: Option<Pin<Box<Sleep>>>,
    /// The check for activities whose limit has passed, or that do not stop. It may be earlier than needed.
    activity_check: Option<Pin<Box<Sleep>>>,
    /// The next tick of the rechecks.
    recheck: Option<Pin<Box<Sleep>>>,
    /// The end of a shutdown's wait for running activities.
    drain: Option<Pin<Box<Sleep>>>,
}

impl Time {
    const RECHECK: Duration = Duration::from_secs(1);

    /// Sets the time at which the next item becomes due.
    pub(super) fn set_due(&mut self, clock: &dyn Clock, due: Option<Timestamp>) {
        match due {
            Some(due) if self.due.as_ref().is_none_or(|(set, _)| *set != due) => {
                self.due = Some((due, clock.sleep_until(due)));
            }
            Some(_) => {}
            None => self.due = None,
        }
        self.fired = None;
    }

    pub(super) fn checks_turns(&self) -> bool {
        self.turn_check.is_some()
    }

    /// Sets the check for turns that do not return.
    pub(super) fn check_turns(&mut self, after: Duration) {
        self.turn_check = sleep_for(after.max(Duration::from_millis(1)));
    }

    /// Sets the check of the activities to this time, unless it is set to an earlier one: setting it for each activity
    /// would cost more than a check without effect.
    pub(super) fn check_activities(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return };
        if self.activity_check.as_ref().is_none_or(|set| set.deadline() > at) {
            self.activity_check = Some(Box::pin(sleep_until(at)));
        }
    }

    pub(super) fn poll_activity_check(&mut self, context: &mut Context<'_>) -> bool {
        has_fired(&mut self.activity_check, context)
    }

    /// Sets the next tick of the rechecks, unless it is set.
    pub(super) fn start_recheck(&mut self) {
        self.recheck.get_or_insert_with(|| Box::pin(sleep(Self::RECHECK)));
    }

    pub(super) fn stop_recheck(&mut self) {
        self.recheck = None;
    }

    pub(super) fn set_drain_deadline(&mut self, after: Duration) {
        self.drain = sleep_for(after);
    }

    pub(super) fn poll_due(&mut self, context: &mut Context<'_>) -> bool {
        let fired = self.due.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(context).is_ready());
        if fired {
            self.fired = self.due.take().map(|(_, sleep)| sleep);
        }
        fired
    }

    pub(super) fn poll_turn_check(&mut self, context: &mut Context<'_>) -> bool {
        has_fired(&mut self.turn_check, context)
    }

    pub(super) fn poll_recheck(&mut self, context: &mut Context<'_>) -> bool {
        has_fired(&mut self.recheck, context)
    }

    pub(super) fn poll_drain_deadline(&mut self, context: &mut Context<'_>) -> bool {
        has_fired(&mut self.drain, context)
    }
}

fn has_fired(timer: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> bool {
    timer.take_if(|sleep| matches!(sleep.as_mut().poll(context), Poll::Ready(()))).is_some()
}

/// Returns a timer; `None` if its end is too far away.
fn sleep_for(after: Duration) -> Option<Pin<Box<Sleep>>> {
    /// More than a century, and far below the overflow of an instant.
    const NEVER: Duration = Duration::from_secs(1 << 32);
    (after < NEVER).then(|| Box::pin(sleep_until(Instant::now() + after)))
}
