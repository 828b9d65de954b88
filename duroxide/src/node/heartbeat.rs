//! The heartbeat: renews the lease.
//!
//! It waits on a thread of its own and polls the renewal there, so user code that computes on the workers of tokio does
//! not delay it. A provider that has sockets or timers on the user's tokio runtime still depends on that runtime, and
//! so does the time limit of a renewal: if all workers are blocked, a renewal may have no answer in time.
//!
//! A renewal that fails is repeated after a shorter pause. After an outage of the storage, all nodes then renew before
//! a lease is taken over. A renewal without an answer is abandoned after a third of the lease time. The lease holds for
//! the time that the last successful renewal returned ([`Renewal::Held`]). When that time has passed, the node drops
//! its work and joins again: another node may take over, and two nodes must not run the same activities for longer than
//! the detection takes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::command::Command;
use super::report::Reporter;
use super::running::Inline;
use crate::provider::{Lease, NodeReport, Provider, ProviderError, Renewal};

/// Renews the lease until it is dropped.
pub(super) struct Heartbeat(Arc<State>);

struct State {
    /// A std mutex: held for a moment, never across an await.
    beat: Mutex<Beat>,
    changed: Condvar,
    /// Like `changed`, for a heartbeat that runs in a task.
    changed_inline: Notify,
    /// Ends the wait for a renewal without an answer.
    ended: Notify,
    /// The time between renewals, and the limit of one.
    pause: Duration,
}

struct Beat {
    lease: Lease,
    /// When the lease expires. `None`: it has not been renewed yet.
    expires: Option<Instant>,
    /// True if the next renewal is due at once.
    now: bool,
    /// True if the last renewal has failed.
    failed: bool,
    life: Life,
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Running,
    /// The node leaves by its own request.
    Stopped,
    /// The node was dropped: the heartbeat releases its items.
    Dropped,
}

/// A heartbeat, and the receiver that resolves when its thread or task has released the provider.
type Started = (Heartbeat, oneshot::Receiver<()>);

impl Heartbeat {
    /// Runs the heartbeat on its own thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(
        provider: Arc<dyn Provider>,
        lease: Lease,
        lease_time: Duration,
        commands: mpsc::UnboundedSender<Command>,
        reporter: Reporter,
    ) -> std::io::Result<Started> {
        let (started, beating) = Self::new(provider, lease, lease_time, commands, reporter);
        let handle = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("duroxide-heartbeat".to_owned());
        thread.spawn(move || {
            while handle.block_on(beating.beat(beating.state.next_beat())) {}
            beating.end();
        })?;
        Ok(started)
    }

    /// Like [`start`](Self::start), in a task instead of a thread.
    pub(super) fn start_inline(
        provider: Arc<dyn Provider>,
        lease: Lease,
        lease_time: Duration,
        commands: mpsc::UnboundedSender<Command>,
        reporter: Reporter,
        inline: Arc<dyn Inline>,
    ) -> Started {
        let (started, beating) = Self::new(provider, lease, lease_time, commands, reporter);
        tokio::spawn(async move {
            let mut quiet = Quiet::default();
            while beating.beat(beating.state.next_beat_inline(&*inline, &mut quiet).await).await {}
            beating.end();
        });
        started
    }

    fn new(
        provider: Arc<dyn Provider>,
        lease: Lease,
        lease_time: Duration,
        commands: mpsc::UnboundedSender<Command>,
        reporter: Reporter,
    ) -> (Started, Beating) {
        let state = State::new(lease, lease_time);
        let (stopped, until_stopped) = oneshot::channel();
        ((Self(state.clone()), until_stopped), Beating { state, provider, commands, reporter, stopped })
    }

    /// Switches to another lease, and renews it at once.
    pub(super) fn renew_as(&self, lease: Lease) {
        {
            let mut beat = self.0.lock();
            (beat.lease, beat.expires, beat.now, beat.failed) = (lease, None, true, false);
        }
        self.0.notify();
    }

    /// Renews the lease at once, which shows whether it still holds.
    pub(super) fn beat_now(&self) {
        self.0.lock().now = true;
        self.0.notify();
    }

    pub(super) fn stop(&self) {
        self.end(Life::Stopped);
    }

    fn end(&self, life: Life) {
        let mut beat = self.0.lock();
        if beat.life == Life::Running {
            beat.life = life;
        }
        drop(beat);
        self.0.notify();
        self.0.ended.notify_one();
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.end(Life::Dropped);
    }
}

/// The part of the heartbeat that runs on its thread or in its task.
struct Beating {
    state: Arc<State>,
    provider: Arc<dyn Provider>,
    commands: mpsc::UnboundedSender<Command>,
    reporter: Reporter,
    stopped: oneshot::Sender<()>,
}

impl Beating {
    /// Renews the lease once. Returns true if the heartbeat continues.
    async fn beat(&self, (lease, life): (Lease, Life)) -> bool {
        let Self { state, provider, commands, .. } = self;
        match life {
            Life::Running => {
                let report = self.reporter.report();
                let renewed = tokio::select! {
                    biased;
                    renewed = state.renew(&lease, &**provider, &report) => renewed,
                    () = state.ended.notified() => return true,
                };
                let note =
                    if state.has_expired(&lease) { Command::Expired(lease) } else { Command::Renewed(lease, renewed) };
                if commands.send(note).is_err() && state.lock().life == Life::Running {
                    tracing::error!(node = %lease.node, "the node has ended without leaving; its items are released");
                    leave(&lease, &**provider).await;
                    return false;
                }
            }
            Life::Stopped => {}
            // The provider may outlive the node, for example in a client: then no other node would detect that this one is
            // gone.
            Life::Dropped => leave(&lease, &**provider).await,
        }
        life == Life::Running
    }

    /// Releases the provider.
    fn end(self) {
        drop(self.provider);
        // The receiver no longer exists if the runtime was dropped.
        let _ = self.stopped.send(());
    }
}

async fn leave(lease: &Lease, provider: &dyn Provider) {
    if let Err(error) = provider.leave(lease).await {
        tracing::warn!(%error, "leaving failed; other nodes take over once they detect that this node is gone");
    }
}

impl State {
    fn new(lease: Lease, lease_time: Duration) -> Arc<Self> {
        // The first renewal returns the time for which the lease holds.
        let beat = Mutex::new(Beat { lease, expires: None, now: true, failed: false, life: Life::Running });
        let (changed, changed_inline, ended) = (Condvar::new(), Notify::new(), Notify::new());
        Arc::new(Self { beat, changed, changed_inline, ended, pause: lease_time / 3 })
    }

    fn notify(&self) {
        self.changed.notify_all();
        self.changed_inline.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(
        &self,
        lease: &Lease,
        provider: &dyn Provider,
        report: &NodeReport,
    ) -> Result<Renewal, ProviderError> {
        const OPERATION: &str = "renew the lease";
        let begun = Instant::now();
        let renewed = timeout(self.pause, provider.renew(lease, report)).await;
        let renewed = renewed.unwrap_or_else(|late| Err(ProviderError::retryable(OPERATION, late)));
        let mut beat = self.lock();
        beat.failed = renewed.is_err();
        if let Ok(Renewal::Held { valid_for, .. }) = &renewed
            && beat.lease == *lease
        {
            // Counted from before the request, since the storage begins to count later. `None`: the end is later than
            // an `Instant` can be.
            beat.expires = begun.checked_add(*valid_for);
        }
        renewed
    }

    /// Returns true if the lease has expired, once.
    fn has_expired(&self, lease: &Lease) -> bool {
        let mut beat = self.lock();
        beat.lease == *lease && beat.expires.take_if(|expires| *expires <= Instant::now()).is_some()
    }

    /// Waits until the next renewal is due, or the heartbeat ends.
    fn next_beat(&self) -> (Lease, Life) {
        let sleeping = |beat: &mut Beat| beat.life == Life::Running && !beat.now;
        let beat = self.lock();
        let pause = beat.pause(self.pause);
        let waited = self.changed.wait_timeout_while(beat, pause, sleeping);
        waited.unwrap_or_else(PoisonError::into_inner).0.begin()
    }

    /// Waits for the next event, in place of renewals that have no effect. Afterwards the lease is as if it had been renewed
    /// all the time. Returns the time since the last of these renewals.
    async fn rest(&self, inline: &dyn Inline, quiet: &mut Quiet) -> Duration {
        let begun = Instant::now();
        tokio::select! {
            biased;
            () = self.changed_inline.notified() => self.changed_inline.notify_one(),
            () = inline.next_event(quiet.events) => {}
        }
        quiet.beats = 0;
        let (rested, pause) = (begun.elapsed(), self.pause.max(Duration::from_micros(1)));
        let since = rested.as_micros() % pause.as_micros();
        let since = Duration::from_micros(u64::try_from(since).unwrap_or(0));
        let mut beat = self.lock();
        beat.expires = beat.expires.and_then(|expires| expires.checked_add(rested - since));
        since
    }

    async fn next_beat_inline(&self, inline: &dyn Inline, quiet: &mut Quiet) -> (Lease, Life) {
        let may_rest = {
            let beat = self.lock();
            beat.life == Life::Running && !beat.now && !beat.failed
        };
        let mut into_pause = Duration::ZERO;
        if may_rest && quiet.is_long(inline.events()) {
            into_pause = self.rest(inline, quiet).await;
        }
        let pause = {
            let beat = self.lock();
            if beat.now { Duration::ZERO } else { beat.pause(self.pause).saturating_sub(into_pause) }
        };
        // An error means that the pause is over.
        let _ = timeout(pause, self.changed_inline.notified()).await;
        self.lock().begin()
    }
}

/// The renewals since the last event around a heartbeat that runs in a task.
#[derive(Default)]
struct Quiet {
    events: u64,
    beats: u32,
}

impl Quiet {
    /// The number of renewals after which the heartbeat rests: more than fit into the minute after which a node releases
    /// idle instances.
    const BEATS: u32 = 20;

    /// Counts a renewal, and returns true if there were many since the last event.
    fn is_long(&mut self, events: u64) -> bool {
        self.beats = if self.events == events { self.beats + 1 } else { 0 };
        self.events = events;
        self.beats > Self::BEATS
    }
}

impl Beat {
    /// Returns the time until the next renewal: at the latest when the lease expires.
    fn pause(&self, longest: Duration) -> Duration {
        let longest = if self.failed { longest / 4 } else { longest };
        self.expires.map_or(longest, |expires| longest.min(expires.saturating_duration_since(Instant::now())))
    }

    fn begin(&mut self) -> (Lease, Life) {
        self.now = false;
        (self.lease, self.life)
    }
}
