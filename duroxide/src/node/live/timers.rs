//! The timers of owned instances.
//!
//! The node has created each timer of an instance that it owns, or received it when it loaded the instance, so it need
//! not ask the storage for due timers. It keeps the earliest timer of each instance, also of an instance without a live
//! copy.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Timestamp;
use crate::id::InstanceId;

/// The earliest timer of each owned instance.
#[derive(Default)]
pub(super) struct Timers {
    by_instance: HashMap<InstanceId, Timestamp>,
    by_time: BTreeSet<(Timestamp, InstanceId)>,
}

impl Timers {
    /// Sets when the next timer of an instance is due; `None`: it has none.
    pub(super) fn set(&mut self, instance: &InstanceId, due: Option<Timestamp>) {
        let before = match due {
            Some(due) => self.by_instance.insert(instance.clone(), due),
            None => self.by_instance.remove(instance),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, instance.clone()));
        }
        if let Some(due) = due {
            self.by_time.insert((due, instance.clone()));
        }
    }

    /// Adds a timer of an instance without a live copy.
    pub(super) fn add(&mut self, instance: &InstanceId, due: Timestamp) {
        let earliest = self.by_instance.get(instance).map_or(due, |before| due.min(*before));
        self.set(instance, Some(earliest));
    }

    /// Returns when the next timer of all is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Removes and returns an instance with a timer that is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<InstanceId> {
        let (due, instance) = self.by_time.first().filter(|(due, _)| *due <= now)?.clone();
        self.by_time.remove(&(due, instance.clone()));
        self.by_instance.remove(&instance);
        Some(instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_has_its_earliest_timer() {
        let id = |name: &str| InstanceId::new(name).unwrap();
        let at = Timestamp::from_micros;
        let mut timers = Timers::default();
        timers.set(&id("a"), Some(at(5)));
        timers.add(&id("a"), at(7));
        timers.add(&id("b"), at(6));
        timers.add(&id("b"), at(3));
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.pop_due(at(2)), None);
        assert_eq!(timers.pop_due(at(9)), Some(id("b")));
        timers.set(&id("a"), None);
        assert_eq!((timers.pop_due(at(9)), timers.next()), (None, None));
    }
}
