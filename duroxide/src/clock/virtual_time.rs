//! The part of a [`Clock`] that only a virtual clock implements: it stops while the program works, and jumps to the
//! next due time while the program only waits.
//!
//! Nodes and clients report to their clock in two ways, each of which lasts until a guard ([`ClockHold`]) is dropped:
//!
//! - [`Clock::hold`]: work is in progress. A node holds the clock while it has an unanswered request to the provider, a
//!   turn or a running activity; a client, from before a request until its caller has the answer. A message within the
//!   process carries a hold from its sender to its receiver.
//! - [`Clock::join`]: a [`Participant`] waits. A node joins while it is idle, and a client while it waits for an
//!   instance. The signals of a provider ([`Wakeups`](crate::provider::Wakeups)) carry no hold, because a provider does
//!   not know the clocks of its users. Instead the clock asks each participant whether it has received a signal that it
//!   has not handled yet.
//!
//! The next guard is always taken before the last one is dropped, so there is no moment at which a node or a client that
//! has work is neither held nor unsettled. A sleep of the clock counts as work from its due time until it is dropped.
//!
//! A virtual clock *may* jump to the earliest due time if there is no hold, every participant is settled, and one of
//! them awaits an outcome. Without the last condition, time would also pass while a test prepares its next step. While
//! an activity runs there is a hold, so an activity may use sockets, threads and time limits of tokio, which follow the
//! clock of the operating system.
//!
//! A clock that wraps a virtual clock forwards both methods; `testing::VirtualClock` has an example. The page
//! [Orchestration guide] shows a test that uses it.
//!
//! [Orchestration guide]: https://github.com/duroxide/duroxide/blob/main/docs/ORCHESTRATION-GUIDE.md#testing

use std::fmt;

use tokio::sync::watch;

#[cfg(doc)]
use super::Clock;

/// A node or a client that waits; see the [module](self).
pub struct Participant {
    settled: Box<dyn Fn() -> bool + Send + Sync>,
    /// Receives the reason for which the wait fails. `None`: a node, which awaits no outcome.
    failure: Option<watch::Sender<Option<String>>>,
}

/// The failure of the wait of a client, once there is one.
pub(crate) struct WaitFailure(watch::Receiver<Option<String>>);

impl Participant {
    /// Creates an idle node, which waits for these signals.
    pub(crate) fn node<T: Send + Sync + 'static>(signals: watch::Receiver<T>) -> Self {
        Self::new(signals, None)
    }

    /// Creates a client, which waits for the outcome of an instance and for these signals.
    pub(crate) fn client<T: Send + Sync + 'static>(signals: watch::Receiver<T>) -> (Self, WaitFailure) {
        let (failure, failed) = watch::channel(None);
        (Self::new(signals, Some(failure)), WaitFailure(failed))
    }

    /// The receiver is a clone, so it still counts a signal as new when the waiting task has seen it and does not hold
    /// the clock yet.
    fn new<T: Send + Sync + 'static>(
        signals: watch::Receiver<T>,
        failure: Option<watch::Sender<Option<String>>>,
    ) -> Self {
        // An error means that the sender no longer exists, so no signal can come.
        Self { settled: Box::new(move || !signals.has_changed().unwrap_or(false)), failure }
    }

    /// Returns true if the participant has received no signal since it joined. A signal ends its wait, and it will hold
    /// the clock. The check takes no lock, so a clock may call it under its own.
    pub fn is_settled(&self) -> bool {
        (self.settled)()
    }

    /// Returns true for a client, whose wait is the reason to jump.
    pub const fn awaits_outcome(&self) -> bool {
        self.failure.is_some()
    }

    /// Fails the test: the wait of the client panics with this reason. A clock calls it if the wait cannot end. No effect
    /// on a node. It wakes the client, so a clock must not call it under its own lock.
    pub fn fail(&self, reason: &str) {
        if let Some(failure) = &self.failure {
            failure.send_replace(Some(reason.to_owned()));
        }
    }
}

impl WaitFailure {
    /// Panics once the wait has failed. Otherwise it never resolves.
    pub(crate) async fn raise(mut self) {
        let reason = self.0.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => panic!("{reason}"),
            // The participant no longer exists, so the wait cannot fail.
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant").field("awaits_outcome", &self.awaits_outcome()).finish_non_exhaustive()
    }
}

/// A guard of [`Clock::hold`] or [`Clock::join`]: dropping it ends the hold or the participation.
#[must_use]
pub struct ClockHold(Option<Box<dyn Send + Sync>>);

impl ClockHold {
    /// Creates a guard without effect, for a clock that is not virtual.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Wraps the guard of a virtual clock.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Some(Box::new(guard)))
    }

    /// Returns true if the guard has no effect. Then the clock is not virtual, and its users need not join.
    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for ClockHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockHold").field("has_effect", &self.0.is_some()).finish()
    }
}
