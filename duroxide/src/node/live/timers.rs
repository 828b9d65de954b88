//! The timers of owned instances.
//!
//! The node has created each timer of an instance that it owns, or received it when it loaded the instance, so it need
//! not ask the storage for due timers. It keeps the earliest timer of each instance, including an instance without a live
//! copy.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::hash::HashMap;
use crate::id::InstanceId;

/// When a timer fires.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timer {
    /// The time at which this node fires it: `due`, or earlier if the clock was set back since the timer began.
    pub(super) by: Timestamp,
    /// The time that is stored.
    pub(super) due: Timestamp,
}

impl Timer {
    /// Returns a timer that begins now, by a clock that may have been set back since the time of its execution.
    pub(super) fn after(due: Timestamp, execution: Timestamp, now: Timestamp) -> Self {
        Self { by: due.min(now + due.since(execution)), due }
    }

    /// Returns the time by which it fires before `due`.
    pub(super) fn ahead(&self) -> Duration {
        self.due.since(self.by)
    }

    /// Moves the timer, since the clock was set by these microseconds.
    pub(super) fn moved(self, step: i64) -> Self {
        Self { by: self.by.shifted(step).min(self.due), due: self.due }
    }
}

impl From<Timestamp> for Timer {
    fn from(due: Timestamp) -> Self {
        Self { by: due, due }
    }
}

/// The earliest timer of each owned instance.
#[derive(Default)]
pub(super) struct Timers {
    by_instance: HashMap<InstanceId, Timer>,
    by_time: BTreeSet<(Timestamp, InstanceId)>,
    /// Instances whose timers fire before their stored times, by how much: for those that are loaded again.
    ahead: HashMap<InstanceId, Duration>,
}

impl Timers {
    /// Sets when the next timer of an instance fires; `None`: it has none.
    pub(super) fn set(&mut self, instance: &InstanceId, timer: Option<Timer>) {
        let before = match timer {
            Some(timer) => self.by_instance.insert(instance.clone(), timer),
            None => self.by_instance.remove(instance),
        };
        match timer.map(|timer| timer.ahead()).filter(|ahead| !ahead.is_zero()) {
            Some(ahead) => drop(self.ahead.insert(instance.clone(), ahead)),
            None if self.ahead.is_empty() => {}
            None => drop(self.ahead.remove(instance)),
        }
        if before == timer {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before.by, instance.clone()));
        }
        if let Some(timer) = timer {
            self.by_time.insert((timer.by, instance.clone()));
        }
    }

    /// Adds a timer of an instance without a live copy.
    pub(super) fn add(&mut self, instance: &InstanceId, timer: Timer) {
        let earliest = self.by_instance.get(instance).copied().filter(|before| before.by < timer.by);
        self.set(instance, Some(earliest.unwrap_or(timer)));
    }

    /// Returns when the next timer of all fires.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(by, _)| *by)
    }

    /// Returns the time by which the timers of an instance fire before their stored times.
    pub(super) fn ahead(&self, instance: &InstanceId) -> Duration {
        self.ahead.get(instance).copied().unwrap_or_default()
    }

    /// Removes and returns an instance with a timer that fires now.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<InstanceId> {
        let (by, instance) = self.by_time.first().filter(|(by, _)| *by <= now)?.clone();
        self.by_time.remove(&(by, instance.clone()));
        self.by_instance.remove(&instance);
        Some(instance)
    }

    /// Moves all timers, since the clock was set by these microseconds.
    pub(super) fn clock_was_set(&mut self, step: i64) {
        let timers: Vec<_> = self.by_instance.iter().map(|(instance, timer)| (instance.clone(), *timer)).collect();
        for (instance, timer) in timers {
            self.set(&instance, Some(timer.moved(step)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> InstanceId {
        InstanceId::new(name).unwrap()
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn each_instance_has_its_earliest_timer() {
        let mut timers = Timers::default();
        timers.set(&id("a"), Some(at(5).into()));
        timers.add(&id("a"), at(7).into());
        timers.add(&id("b"), at(6).into());
        timers.add(&id("b"), at(3).into());
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.pop_due(at(2)), None);
        assert_eq!(timers.pop_due(at(9)), Some(id("b")));
        timers.set(&id("a"), None);
        assert_eq!((timers.pop_due(at(9)), timers.next()), (None, None));
    }

    #[test]
    fn timer_keeps_the_time_that_is_left_when_the_clock_is_set() {
        let mut timers = Timers::default();
        // At 100, with 10 left; then the clock is set back to 40.
        timers.set(&id("a"), Some(at(110).into()));
        timers.clock_was_set(-60);
        assert_eq!((timers.next(), timers.ahead(&id("a"))), (Some(at(50)), Duration::from_micros(60)));
        // An execution whose last event is at 100 begins another timer of 20, although the clock shows 45.
        assert_eq!(Timer::after(at(120), at(100), at(45)), Timer { by: at(65), due: at(120) });
        // The time is corrected: the timer is due by the clock again, and no later.
        timers.clock_was_set(60);
        assert_eq!((timers.next(), timers.ahead(&id("a"))), (Some(at(110)), Duration::ZERO));
        timers.clock_was_set(1000);
        assert_eq!(timers.next(), Some(at(110)));
    }

    #[test]
    fn instance_that_is_loaded_again_keeps_its_offset() {
        let mut timers = Timers::default();
        timers.set(&id("a"), Some(at(110).into()));
        timers.clock_was_set(-60);
        assert_eq!(timers.pop_due(at(50)), Some(id("a")));
        assert_eq!(timers.ahead(&id("a")), Duration::from_micros(60));
        timers.set(&id("a"), None);
        assert_eq!(timers.ahead(&id("a")), Duration::ZERO);
    }
}
