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
use tokio::sync::watch;

use crate::clock::virtual_time::{ClockHold, Participant};
use crate::clock::{Clock, Timestamp};

/// A clock for tests. It does not move while a runtime or a client has something to do, such as an activity that runs.
/// If a client waits for the outcome of an instance, or the test sleeps by this clock ([`sleep`](Self::sleep)), and all
/// runtimes are idle, it jumps to the next due time. [`advance`](Self::advance) moves it forward at any time. It begins on
/// 1 January 2020.
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
    /// The number of the last change after which nothing could happen.
    stalled: watch::Sender<u64>,
}

struct State {
    now: Timestamp,
    /// The number of holds, and of sleepers that are due and not dropped.
    busy: usize,
    participants: BTreeMap<u64, Arc<Participant>>,
    sleepers: BTreeMap<(Timestamp, u64), Option<Waker>>,
    /// The sleeps of tests: each ends once all work that is due by then is done.
    tests: BTreeMap<(Timestamp, u64), Option<Waker>>,
    /// The reason for which all waits fail from now on.
    failure: Option<String>,
    /// The number of changes of this state, and the last key.
    changes: u64,
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
        let state = State {
            now: Self::BEGIN,
            busy: 0,
            participants: BTreeMap::new(),
            sleepers: BTreeMap::new(),
            tests: BTreeMap::new(),
            failure: None,
            changes: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), stalled: watch::Sender::default() }))
    }

    /// Moves the clock forward at once, even while the program works. A timer that is due in between fires late, at the
    /// new time; [`sleep`](Self::sleep) fires each at its time.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.0.lock();
        let now = state.now + duration;
        let woken = state.move_to(now);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits for a time by this clock, while the runtimes work: every timer that is due by then fires at its time, and the
    /// work that follows from it is done when this returns. A sleep of zero waits until the runtimes are idle.
    ///
    /// Not for a mock: while an activity runs, this clock stops, so the sleep would not end.
    ///
    /// # Panics
    /// If the test has failed, for example because an activity without a mock was called.
    ///
    /// # Cancel safety
    /// If the future is dropped, the clock stays where it is.
    pub async fn sleep(&self, duration: Duration) {
        let key = {
            let mut state = self.0.lock();
            let key = (state.now + duration, state.next_change());
            state.tests.insert(key, None);
            key
        };
        TestSleep { clock: self.0.clone(), key }.await;
    }

    /// Fails this test: all waits for instances and all sleeps panic with this reason, from now on. The first reason
    /// counts.
    pub(super) fn fail(&self, reason: String) {
        let mut state = self.0.lock();
        let reason = state.failure.get_or_insert(reason).clone();
        let participants: Vec<_> = state.participants.values().cloned().collect();
        let sleeps: Vec<_> = state.tests.values_mut().filter_map(Option::take).collect();
        drop(state);
        participants.iter().for_each(|participant| participant.fail(&reason));
        sleeps.into_iter().for_each(Waker::wake);
    }

    /// Returns the reason for which the test has failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.lock().failure.clone()
    }

    /// Waits until nothing can happen: every runtime is idle, no timer is pending, and clients wait. Returns the number
    /// of the last change.
    pub(super) async fn stalled(&self) -> u64 {
        let mut stalls = self.0.stalled.subscribe();
        loop {
            let now = self.0.lock().stalled();
            match now {
                Some(change) => return change,
                // The sender is held by `self`.
                None => drop(stalls.changed().await),
            }
        }
    }

    /// Returns true if nothing has changed since that change.
    pub(super) fn is_unchanged_since(&self, change: u64) -> bool {
        self.0.lock().stalled() == Some(change)
    }

    /// Fails the waits of all clients with this reason, if nothing has changed since that change.
    pub(super) fn fail_stalled(&self, change: u64, reason: &str) {
        let state = self.0.lock();
        let is_stalled = state.stalled() == Some(change);
        let waiting: Vec<_> = state.participants.values().filter(|_| is_stalled).cloned().collect();
        drop(state);
        waiting.iter().for_each(|participant| participant.fail(reason));
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
        if !state.is_idle() {
            return;
        }
        let test = state.tests.first_key_value().map(|((due, _), _)| *due);
        let woken = match (state.next_due(), test) {
            (Some(due), Some(test)) if due <= test => state.move_to(due),
            (_, Some(test)) => state.end_sleeps_of_tests(test),
            (Some(due), None) if state.is_awaited() => state.move_to(due),
            (Some(_), None) => Vec::new(),
            (None, None) => {
                let stalled = state.stalled();
                drop(state);
                self.stalled
                    .send_if_modified(|last| stalled.is_some_and(|change| std::mem::replace(last, change) != change));
                return;
            }
        };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.busy == 0 && self.participants.values().all(|participant| participant.is_settled())
    }

    /// Returns true if a client waits.
    fn is_awaited(&self) -> bool {
        self.participants.values().any(|participant| participant.awaits_outcome())
    }

    /// Returns the earliest due time. A timer at the end of time is never due.
    fn next_due(&self) -> Option<Timestamp> {
        self.sleepers.first_key_value().map(|((due, _), _)| *due).filter(|due| *due != Timestamp::MAX)
    }

    /// Returns the number of the last change if nothing can happen.
    fn stalled(&self) -> Option<u64> {
        let may_happen = !self.is_idle() || self.next_due().is_some() || !self.tests.is_empty();
        (!may_happen && self.is_awaited()).then_some(self.changes)
    }

    fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// Sets the time to the end of sleeps of tests, and returns their wakers. Each counts as busy until it is dropped.
    fn end_sleeps_of_tests(&mut self, end: Timestamp) -> Vec<Waker> {
        let mut woken = self.move_to(end);
        let later = self.tests.split_off(&(self.now, u64::MAX));
        let ended = std::mem::replace(&mut self.tests, later);
        self.busy += ended.len();
        woken.extend(ended.into_values().flatten());
        woken
    }

    /// Sets the time, and returns the wakers of the sleepers that are due. Each sleeper counts as busy until it is
    /// dropped.
    fn move_to(&mut self, time: Timestamp) -> Vec<Waker> {
        self.next_change();
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
        let key = (due, state.next_change());
        if due > state.now {
            state.sleepers.insert(key, None);
        } else {
            state.busy += 1;
        }
        drop(state);
        Box::pin(Sleeper { clock: self.0.clone(), key })
    }

    fn hold(&self) -> ClockHold {
        let mut state = self.0.lock();
        state.next_change();
        state.busy += 1;
        drop(state);
        ClockHold::new(Busy(self.0.clone()))
    }

    fn join(&self, participant: Participant) -> ClockHold {
        let participant = Arc::new(participant);
        let mut state = self.0.lock();
        let key = state.next_change();
        state.participants.insert(key, participant.clone());
        let failure = state.failure.clone();
        drop(state);
        if let Some(reason) = failure {
            participant.fail(&reason);
        }
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

/// A sleep of a test. From its end until it is dropped, it counts as busy, so that the clock does not jump before the test
/// continues.
struct TestSleep {
    clock: Arc<Shared>,
    key: (Timestamp, u64),
}

impl Future for TestSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        if let Some(reason) = state.failure.clone() {
            drop(state);
            panic!("{reason}");
        }
        let Some(waker) = state.tests.get_mut(&self.key) else { return Poll::Ready(()) };
        *waker = Some(context.waker().clone());
        drop(state);
        self.clock.jump_if_idle();
        Poll::Pending
    }
}

impl Drop for TestSleep {
    fn drop(&mut self) {
        let asleep = self.clock.lock().tests.remove(&self.key).is_some();
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

        let client = clock.join(Participant::client(signals.subscribe()).0);
        signals.send_replace(());
        assert!(!ends(&mut sleep), "there is a signal for both");
        let client = (clock.join(Participant::client(signals.subscribe()).0), client).0;
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
    fn wait_fails_only_if_nothing_has_changed_since_the_stall() {
        let (clock, signals) = (VirtualClock::new(), watch::Sender::new(()));
        let _node = clock.join(Participant::node(signals.subscribe()));
        assert!(clock.stalled().now_or_never().is_none(), "no client waits");
        let (participant, failure) = Participant::client(signals.subscribe());
        let _client = clock.join(participant);
        let mut fails = Box::pin(failure.raise());
        let sleep = clock.sleep_until(clock.now() + SECOND);
        assert!(clock.stalled().now_or_never().is_none(), "a timer is pending");
        drop(sleep);
        let change = clock.stalled().now_or_never().unwrap();

        drop(clock.hold());
        assert!(!clock.is_unchanged_since(change));
        clock.fail_stalled(change, "too late");
        assert!(fails.as_mut().now_or_never().is_none(), "work was done since");
        clock.fail_stalled(clock.stalled().now_or_never().unwrap(), "nothing can happen");
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fails.now_or_never())).unwrap_err();
        assert_eq!(*panic.downcast::<String>().unwrap(), "nothing can happen");
    }

    #[test]
    fn sleep_of_a_test_ends_after_the_work_that_is_due_by_then() {
        let (clock, signals) = (VirtualClock::new(), watch::Sender::new(()));
        let begin = clock.now();
        let node = clock.join(Participant::node(signals.subscribe()));
        let mut timers: Vec<_> = (1..=3).map(|n| clock.sleep_until(begin + n * SECOND)).collect();
        let mut sleep = Box::pin(clock.sleep(2 * SECOND));
        for n in 1..=2 {
            assert!(sleep.as_mut().now_or_never().is_none());
            assert_eq!(clock.now(), begin + n * SECOND);
            assert!(ends(&mut timers[0]));
            drop(timers.remove(0));
        }
        assert!(sleep.as_mut().now_or_never().is_some());
        drop(sleep);
        assert!(!ends(&mut timers[0]), "the clock stops at the end of the sleep");
        drop(node);
    }

    #[test]
    fn clock_stops_until_a_due_sleep_is_dropped() {
        let (clock, signals) = (VirtualClock::new(), watch::Sender::new(()));
        let begin = clock.now();
        let client = clock.join(Participant::client(signals.subscribe()).0);
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
