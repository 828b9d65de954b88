//! The signal that cancels a running activity.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The cancellation of one running activity. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CancelSignal(Arc<Signal>);

struct Signal {
    cancelled: watch::Sender<bool>,
    /// True once the activity has checked or awaited its cancellation. Otherwise it is dropped at its next await.
    observed: AtomicBool,
}

impl CancelSignal {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Signal { cancelled: watch::Sender::new(false), observed: AtomicBool::new(false) }))
    }

    pub(crate) fn cancel(&self) {
        self.0.cancelled.send_replace(true);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        *self.0.cancelled.borrow()
    }

    pub(crate) async fn cancelled(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.0.cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    pub(crate) fn observe(&self) {
        self.0.observed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.0.observed.load(Ordering::Relaxed)
    }
}
