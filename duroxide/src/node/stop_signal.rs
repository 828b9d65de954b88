//! The signal to the clients of a runtime that it has stopped.

use std::sync::Arc;

use tokio::sync::watch;

/// Set once the node of a runtime has left, was dropped or has panicked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StopSignal(Arc<watch::Sender<bool>>);

impl StopSignal {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(super) fn set(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once the runtime has stopped.
    pub(crate) async fn stopped(&self) {
        // The sender is held by `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Returns a guard that sets the signal on drop: with the task of the node, however it ends.
    pub(super) fn set_on_drop(&self) -> SetOnDrop {
        SetOnDrop(self.clone())
    }
}

pub(super) struct SetOnDrop(StopSignal);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
