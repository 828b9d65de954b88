//! A clock that stops while the program works, and jumps when the program only waits.
//!
//! It is independent of the paused clock of tokio, which knows only the tasks and timers of its runtime. That clock would
//! jump while an activity waits for a socket, another thread or a storage, so every time limit would pass at once; and
//! while it is inhibited, a sleep of an activity would never end. The simulation uses it, because all of its waits are
//! timers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::clock::virtual_time::{ClockHold, Participant};
use crate::clock::{Clock, Timestamp};

/// A clock for tests. It does not move while a runtime or a client has something to do, such as an activity that runs.
/// If a client waits for the outcome of an instance and all runtimes are idle, it jumps to the next due time.
/// [`advance`](Self::advance) moves it forward at any time. It begins on 1 January 2020.
///
/// A clock that wraps it must forward [`Clock::hold`] and [`Clock::join`]:
///
/// ```standalone_crate
/// use std::time::Duration;
///
/// use duroxide::clock::virtual_time::{ClockHold, Participant};
/// use duroxide::prelude::*;
/// use duroxide::testing::VirtualClock;
/// use duroxide::clock::{Clock, Timestamp};
/// use futures_util::future::BoxFuture;
///
/// const HOUR: Duration = Duration::from_secs(3600);
///
/// /// A clock that is an hour ahead.
/// struct Ahead(VirtualClock);
///
/// impl Clock for Ahead {
///     fn now(&self) -> Timestamp {
///         self.0.now() + HOUR
///     }
///     fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
///         self.0.sleep_until(due - HOUR)
///     }
///     fn hold(&self) -> ClockHold {
///         self.0.hold()
///     }
///     fn join(&self, participant: Participant) -> ClockHold {
///         self.0.join(participant)
///     }
/// }
///
/// #[orchestration]
/// async fn nap(ctx: OrchestrationContext) -> duroxide::Result<String> {
///     ctx.sleep(days(1)).await;
///     Ok(ctx.now().to_string())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> duroxide::Result<()> {
/// let runtime = Runtime::builder().in_memory().clock(Ahead(VirtualClock::new())).start().await?;
/// let handle = nap::start(&runtime.client(), "nap").await?;
/// assert_eq!(handle.result().await?, "2020-01-02T01:00:00.000Z");
/// runtime.shutdown().await?;
/// Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct VirtualClock(Arc<Shared>);

struct Shared {
    /// A std mutex: held for a few instructions, never while a waker is called.
    state: Mutex<State>,
}

struct State {
    now: Timestamp,
    /// The number of holds, and of sleepers that are due and not dropped.
    busy: usize,
    participants: BTreeMap<u64, Participant>,
    sleepers: BTreeMap<(Timestamp, u64), Option<Waker>>,
    last_key: u64,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualClock {
    const BEGIN: Timestamp = Timestamp::from_micros(1_577_836_800_000_000);

    /// Creates a clock.
    pub fn new() -> Self {
        let (participants, sleepers) = (BTreeMap::new(), BTreeMap::new());
        let state = State { now: Self::BEGIN, busy: 0, participants, sleepers, last_key: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state) }))
    }

    /// Moves the clock forward, also while the program works.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.0.lock();
        let now = state.now + duration;
        let woken = state.move_to(now);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self) {
        self.lock().busy -= 1;
        self.jump_if_idle();
    }

    /// Jumps to the next due time if the conditions of [`virtual_time`](crate::clock::virtual_time) hold.
    fn jump_if_idle(&self) {
        let mut state = self.lock();
        let next = state.sleepers.first_key_value().map(|((due, _), _)| *due);
        let Some(due) = next.filter(|due| *due != Timestamp::MAX && state.may_jump()) else { return };
        let woken = state.move_to(due);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn may_jump(&self) -> bool {
        self.busy == 0
            && self.participants.values().any(Participant::awaits_outcome)
            && self.participants.values().all(Participant::is_settled)
    }

    /// Sets the time, and returns the wakers of the sleepers that are due. Each sleeper counts as busy until it is
    /// dropped.
    fn move_to(&mut self, time: Timestamp) -> Vec<Waker> {
        self.now = self.now.max(time);
        let later = self.sleepers.split_off(&(self.now, u64::MAX));
        let due = std::mem::replace(&mut self.sleepers, later);
        self.busy += due.len();
        due.into_values().flatten().collect()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        let mut state = self.0.lock();
        state.last_key += 1;
        let key = (due, state.last_key);
        if due > state.now {
            state.sleepers.insert(key, None);
        } else {
            state.busy += 1;
        }
        drop(state);
        Box::pin(Sleeper { clock: self.0.clone(), key })
    }

    fn hold(&self) -> ClockHold {
        self.0.lock().busy += 1;
        ClockHold::new(Busy(self.0.clone()))
    }

    fn join(&self, participant: Participant) -> ClockHold {
        let mut state = self.0.lock();
        state.last_key += 1;
        let key = state.last_key;
        state.participants.insert(key, participant);
        drop(state);
        ClockHold::new(Joined { clock: self.0.clone(), key })
    }
}

struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.release();
    }
}

struct Joined {
    clock: Arc<Shared>,
    key: u64,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let participant = self.clock.lock().participants.remove(&self.key);
        drop(participant);
    }
}

/// A sleeping task. From its due time until it is dropped, a sleeper counts as busy, so that the clock does not jump
/// before the task has run.
struct Sleeper {
    clock: Arc<Shared>,
    key: (Timestamp, u64),
}

impl Future for Sleeper {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        let Some(waker) = state.sleepers.get_mut(&self.key) else { return Poll::Ready(()) };
        *waker = Some(context.waker().clone());
        drop(state);
        self.clock.jump_if_idle();
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let asleep = self.clock.lock().sleepers.remove(&self.key).is_some();
        if !asleep {
            self.clock.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::watch;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Polls the sleep, and returns true if it has ended.
    fn ends(sleep: &mut BoxFuture<'static, ()>) -> bool {
        sleep.now_or_never().is_some()
    }

    #[test]
    fn clock_jumps_only_while_a_client_waits_and_all_are_settled() {
        let (clock, signals) = (VirtualClock::new(), watch::Sender::new(()));
        let begin = clock.now();
        let mut sleep = clock.sleep_until(begin + SECOND);
        let node = clock.join(Participant::node(signals.subscribe()));
        assert!(!ends(&mut sleep), "no client waits");

        let client = clock.join(Participant::client(signals.subscribe()));
        signals.send_replace(());
        assert!(!ends(&mut sleep), "there is a signal for both");
        let client = (clock.join(Participant::client(signals.subscribe())), client).0;
        assert!(!ends(&mut sleep), "there is a signal for the node");

        let held = clock.hold();
        drop(node);
        assert!(!ends(&mut sleep), "the node has taken a hold for its signal");
        let node = clock.join(Participant::node(signals.subscribe()));
        assert_eq!(clock.now(), begin);
        drop(held);
        assert_eq!(clock.now(), begin + SECOND, "the end of the last hold lets the clock jump");
        assert!(ends(&mut sleep));
        drop((node, client));
    }

    #[test]
    fn clock_stops_until_a_due_sleep_is_dropped() {
        let (clock, signals) = (VirtualClock::new(), watch::Sender::new(()));
        let begin = clock.now();
        let client = clock.join(Participant::client(signals.subscribe()));
        let (first, mut second) = (clock.sleep_until(begin + SECOND), clock.sleep_until(begin + 2 * SECOND));
        assert!(!ends(&mut second), "the first sleep is due");
        assert_eq!(clock.now(), begin + SECOND);
        drop(first);
        assert!(ends(&mut second));
        assert_eq!(clock.now(), begin + 2 * SECOND);

        let mut never = clock.sleep_until(Timestamp::MAX);
        drop(second);
        assert!(!ends(&mut never), "a timer at the end of time waits until it is cancelled");
        drop(client);
    }
}
