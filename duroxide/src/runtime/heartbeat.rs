//! Showing that the node is alive, from a thread of its own that busy user code cannot starve.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::node::Note;
use crate::provider::{Lease, Provider};

/// Renews the lease until it is dropped.
pub(super) struct Heartbeat(Arc<State>);

struct State {
    /// A std mutex: held for a moment, never across an await.
    beat: Mutex<Beat>,
    changed: Condvar,
    /// Ends a beat that the storage does not answer.
    ended: Notify,
}

struct Beat {
    lease: Lease,
    /// Whether to beat at once.
    now: bool,
    life: Life,
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Beats,
    /// The node leaves by itself.
    Stopped,
    /// The node was dropped: nobody but the heart is left to give back what it owned.
    Dropped,
}

impl Heartbeat {
    /// Also returns what resolves when the thread has let go of the provider.
    pub(super) fn start(
        provider: Arc<dyn Provider>,
        lease: Lease,
        lease_time: Duration,
        notes: mpsc::UnboundedSender<Note>,
    ) -> (Self, oneshot::Receiver<()>) {
        let beat = Beat { lease, now: false, life: Life::Beats };
        let state = Arc::new(State { beat: Mutex::new(beat), changed: Condvar::new(), ended: Notify::new() });
        let (gone, is_gone) = oneshot::channel();
        let beating = state.clone();
        let handle = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("duroxide-heartbeat".to_owned());
        let spawned = thread.spawn(move || {
            beat_on(&beating, &*provider, lease_time / 3, &notes, &handle);
            drop(provider);
            // Nobody waits for it where the runtime was dropped.
            let _ = gone.send(());
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "the heartbeat thread cannot be started; other nodes may take over what this one owns");
        }
        (Self(state), is_gone)
    }

    /// Goes on with another lease.
    pub(super) fn renew_as(&self, lease: Lease) {
        self.0.lock().lease = lease;
    }

    /// Asks at once whether the lease holds.
    pub(super) fn beat_now(&self) {
        self.0.lock().now = true;
        self.0.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.end(Life::Stopped);
    }

    fn end(&self, life: Life) {
        let mut beat = self.0.lock();
        if beat.life == Life::Beats {
            beat.life = life;
        }
        drop(beat);
        self.0.changed.notify_all();
        self.0.ended.notify_one();
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.end(Life::Dropped);
    }
}

fn beat_on(
    state: &State,
    provider: &dyn Provider,
    pause: Duration,
    notes: &mpsc::UnboundedSender<Note>,
    handle: &tokio::runtime::Handle,
) {
    loop {
        let (lease, life) = state.next_beat(pause);
        match life {
            Life::Beats => {
                let beat = async {
                    tokio::select! {
                        renewed = provider.renew(&lease) => Some(renewed),
                        () = state.ended.notified() => None,
                    }
                };
                let Some(renewed) = handle.block_on(beat) else { continue };
                // When the node is gone, the heart is told.
                let _ = notes.send(Note::Renewed(lease, renewed));
            }
            Life::Stopped => return,
            Life::Dropped => {
                // Where the provider lives on, in a client perhaps, nobody would see that the node is gone.
                if let Err(error) = handle.block_on(provider.leave(&lease)) {
                    tracing::warn!(%error, "leaving failed; other nodes take over once this one is seen to be gone");
                }
                return;
            }
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the next beat is due, or the last.
    fn next_beat(&self, pause: Duration) -> (Lease, Life) {
        let sleeping = |beat: &mut Beat| beat.life == Life::Beats && !beat.now;
        let waited = self.changed.wait_timeout_while(self.lock(), pause, sleeping);
        let mut beat = waited.unwrap_or_else(PoisonError::into_inner).0;
        beat.now = false;
        (beat.lease, beat.life)
    }
}
