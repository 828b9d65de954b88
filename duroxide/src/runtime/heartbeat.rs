//! Showing that the node is alive, from a thread of its own that busy user code cannot starve.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::node::Note;
use crate::provider::{Lease, Provider};

/// Renews the lease until it is dropped.
pub(super) struct Heartbeat(Arc<State>);

struct State {
    /// A std mutex: held for a moment, never across an await.
    beat: Mutex<Beat>,
    changed: Condvar,
}

struct Beat {
    /// `None` once the heart is to stop.
    lease: Option<Lease>,
    /// Whether to beat at once.
    now: bool,
}

impl Heartbeat {
    pub(super) fn start(
        provider: Arc<dyn Provider>,
        lease: Lease,
        lease_time: Duration,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Self {
        let beat = Beat { lease: Some(lease), now: false };
        let state = Arc::new(State { beat: Mutex::new(beat), changed: Condvar::new() });
        let beating = state.clone();
        let handle = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("duroxide-heartbeat".to_owned());
        let spawned = thread.spawn(move || beat_on(&beating, &*provider, lease_time / 3, &notes, &handle));
        if let Err(error) = spawned {
            tracing::error!(%error, "the heartbeat thread cannot be started; other nodes may take over what this one owns");
        }
        Self(state)
    }

    /// Goes on with another lease.
    pub(super) fn renew_as(&self, lease: Lease) {
        self.0.lock().lease = Some(lease);
    }

    /// Asks at once whether the lease holds.
    pub(super) fn beat_now(&self) {
        self.0.lock().now = true;
        self.0.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.0.lock().lease = None;
        self.0.changed.notify_all();
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop();
    }
}

fn beat_on(
    state: &State,
    provider: &dyn Provider,
    pause: Duration,
    notes: &mpsc::UnboundedSender<Note>,
    handle: &tokio::runtime::Handle,
) {
    while let Some(lease) = state.next_beat(pause) {
        let renewed = handle.block_on(provider.renew(&lease));
        if notes.send(Note::Renewed(lease, renewed)).is_err() {
            return;
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the next beat is due; `None` when there is none.
    fn next_beat(&self, pause: Duration) -> Option<Lease> {
        let sleeping = |beat: &mut Beat| beat.lease.is_some() && !beat.now;
        let waited = self.changed.wait_timeout_while(self.lock(), pause, sleeping);
        let mut beat = waited.unwrap_or_else(PoisonError::into_inner).0;
        beat.now = false;
        beat.lease
    }
}
