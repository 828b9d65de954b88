//! The context of a running activity.

use std::fmt;
use std::sync::Arc;

use super::{CancelSignal, State, States};
use crate::history::TextMap;
use crate::id::{ActivityId, InstanceId};
use crate::policy::Limits;
use crate::provider::TransactionalAttempt;
use crate::replay::op::activity::idempotency_key;

/// Information about the current attempt of an activity. Cheap to clone.
#[derive(Clone)]
pub struct ActivityContext(Arc<Inner>);

struct Inner {
    transaction: TransactionalAttempt,
    limits: Limits,
    headers: TextMap,
    cancel: CancelSignal,
    states: Arc<States>,
}

impl ActivityContext {
    pub(crate) fn new(
        transaction: TransactionalAttempt,
        limits: Limits,
        headers: TextMap,
        cancel: CancelSignal,
        states: Arc<States>,
    ) -> Self {
        Self(Arc::new(Inner { transaction, limits, headers, cancel, states }))
    }

    pub(crate) fn id(&self) -> &ActivityId {
        &self.0.transaction.tenure.activity
    }

    /// Returns the attempt, for code that runs in a transaction.
    pub(super) fn transaction(&self) -> &TransactionalAttempt {
        &self.0.transaction
    }

    pub(super) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Returns true if the attempt is cancelled, without observing the signal.
    pub(super) fn is_stopped(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// Returns the instance that called the activity.
    pub fn instance(&self) -> &InstanceId {
        &self.id().execution.instance
    }

    /// Returns the number of this attempt, from 1. An attempt that ended in a crash of the process does not count.
    pub fn attempt(&self) -> u32 {
        self.0.transaction.tenure.attempt
    }

    /// Returns the headers of the orchestration that called the activity, such as a trace context. They are given at its
    /// start.
    pub fn headers(&self) -> &TextMap {
        &self.0.headers
    }

    /// Returns a key that is the same in every attempt of this call, and different for every other call. Pass it to
    /// external services, so that a repeated attempt has no second effect.
    pub fn idempotency_key(&self) -> String {
        idempotency_key(&self.id().execution, self.id().call)
    }

    /// Resolves when this attempt is cancelled: its call was dropped, its orchestration has ended, or its time limit has
    /// passed while its code computed or blocked its thread.
    ///
    /// An activity that never asks is dropped at its next await; one that has asked decides when to finish. Code that
    /// computes or blocks cannot be dropped. Nothing waits for it: a time-out is the outcome of the attempt at once, and
    /// the result of the code is discarded. But the code holds its permit of `RuntimeOptions::max_activities` or
    /// `RuntimeOptions::max_blocking_activities` until it returns. After `RuntimeOptions::turn_warning` it is reported in
    /// the log (`DUR0009`).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn cancelled(&self) {
        self.0.cancel.observe();
        self.0.cancel.cancelled().await;
    }

    /// Returns true if this attempt is cancelled. Asking counts as in [`cancelled`](Self::cancelled).
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.observe();
        self.0.cancel.is_cancelled()
    }

    /// Returns the value of type `T` that was passed to `Runtime::builder().state(..)`.
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<State<T>> {
        self.0.states.get::<T>().map(State)
    }
}

impl fmt::Debug for ActivityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActivityContext({}, attempt {})", self.id(), self.attempt())
    }
}
