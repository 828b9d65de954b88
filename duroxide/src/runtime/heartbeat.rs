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
    /// As `changed`, for a heart that beats in a task.
    told: Notify,
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
    /// Beats in a thread. Also returns what resolves once the heart has let go of the provider.
    pub(super) fn start(
        provider: Arc<dyn Provider>,
        lease: Lease,
        lease_time: Duration,
        notes: mpsc::UnboundedSender<Note>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (state, pause) = (State::new(lease), lease_time / 3);
        let (gone, is_gone) = oneshot::channel();
        let beating = state.clone();
        let handle = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("duroxide-heartbeat".to_owned());
        let spawned = thread.spawn(move || {
            let mut goes_on = true;
            while goes_on {
                let (lease, life) = beating.next_beat(pause);
                goes_on = handle.block_on(beat(&beating, lease, life, &*provider, &notes));
            }
            drop(provider);
            // Nobody waits for it where the runtime was dropped.
            let _ = gone.send(());
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "the heartbeat thread cannot be started; other nodes may take over what this one owns");
        }
        (Self(state), is_gone)
    }

    /// As [`start`](Self::start), in a task instead of a thread.
    pub(super) fn start_inline(
        provider: Arc<dyn Provider>,
        lease: Lease,
        lease_time: Duration,
        notes: mpsc::UnboundedSender<Note>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (state, pause) = (State::new(lease), lease_time / 3);
        let (gone, is_gone) = oneshot::channel();
        let beating = state.clone();
        tokio::spawn(async move {
            let mut goes_on = true;
            while goes_on {
                let (lease, life) = beating.next_beat_inline(pause).await;
                goes_on = beat(&beating, lease, life, &*provider, &notes).await;
            }
            drop(provider);
            let _ = gone.send(());
        });
        (Self(state), is_gone)
    }

    /// Goes on with another lease.
    pub(super) fn renew_as(&self, lease: Lease) {
        self.0.lock().lease = lease;
    }

    /// Asks at once whether the lease holds.
    pub(super) fn beat_now(&self) {
        self.0.lock().now = true;
        self.0.tell();
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
        self.0.tell();
        self.0.ended.notify_one();
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.end(Life::Dropped);
    }
}

/// Beats once, and tells whether the heart goes on.
async fn beat(
    state: &State,
    lease: Lease,
    life: Life,
    provider: &dyn Provider,
    notes: &mpsc::UnboundedSender<Note>,
) -> bool {
    match life {
        Life::Beats => {
            let renewed = tokio::select! {
                biased;
                renewed = provider.renew(&lease) => renewed,
                () = state.ended.notified() => return true,
            };
            if notes.send(Note::Renewed(lease, renewed)).is_err() && state.lock().life == Life::Beats {
                tracing::error!(node = %lease.node, "the node has ended without leaving; what it owned is given back");
                leave(&lease, provider).await;
                return false;
            }
        }
        Life::Stopped => {}
        // Where the provider lives on, in a client perhaps, nobody would see that the node is gone.
        Life::Dropped => leave(&lease, provider).await,
    }
    life == Life::Beats
}

async fn leave(lease: &Lease, provider: &dyn Provider) {
    if let Err(error) = provider.leave(lease).await {
        tracing::warn!(%error, "leaving failed; other nodes take over once this one is seen to be gone");
    }
}

impl State {
    fn new(lease: Lease) -> Arc<Self> {
        let beat = Mutex::new(Beat { lease, now: false, life: Life::Beats });
        Arc::new(Self { beat, changed: Condvar::new(), told: Notify::new(), ended: Notify::new() })
    }

    fn tell(&self) {
        self.changed.notify_all();
        self.told.notify_one();
    }

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

    async fn next_beat_inline(&self, pause: Duration) -> (Lease, Life) {
        // An error means that the pause is over.
        let _ = tokio::time::timeout(pause, self.told.notified()).await;
        let mut beat = self.lock();
        beat.now = false;
        (beat.lease, beat.life)
    }
}
