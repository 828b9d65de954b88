//! Counts of instances, activities and timers by their properties, for people.

use std::collections::BTreeMap;
use std::fmt;

use crate::clock::Timestamp;

/// The items that [`Admin::groups`](super::Admin::groups) counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// Instances.
    Instances,
    /// Activities that have not ended: the queues.
    Activities,
    /// Messages that become visible at a time, of instances that have not finished: timers, delayed starts and delayed
    /// events. By [`Dimension::Minute`], they are the forecast.
    Timers,
}

/// A property by which [`Admin::groups`](super::Admin::groups) counts. An item without the property has the key `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dimension {
    /// The name of the activity; of other subjects, the name of the orchestration.
    Name,
    /// The version that the execution of the instance is pinned to. `None` before its first turn.
    Version,
    /// The status of the instance ([`InstanceRecord::status`](super::InstanceRecord::status)), by its stored name.
    Status,
    /// The epoch of the node that owns the activity; of other subjects, the instance. In decimal digits.
    Node,
    /// The tag of the activity.
    Tag,
    /// The state of the activity: an [`ActivityState`], by its name.
    State,
    /// The minute in which the timer, or the next attempt of an activity without an owner, is due; as [`minute`](Self::minute)
    /// shows it.
    Minute,
    /// The text of the calls that the instance waits for ([`Waits::text`](crate::history::Waits::text)). `None`: it waits for
    /// none, or has finished.
    Waits,
    /// Of an activity, the cause of its last failed attempt or, while it is parked, of its rejection. Of an instance, the cause of its failure or
    /// suspension ([`InstanceRecord::cause`](super::InstanceRecord::cause)); if it has none, that of its first activity that
    /// has one. So instances whose activities fail for one reason are one group, while they are retried and after they have
    /// failed. Of timers, that of their instance.
    Cause,
    /// The first 7 characters of the cause of a suspended instance, which are the [`ErrorCode`](crate::error::ErrorCode) of
    /// its suspension: `DUR0010` if it is paused. Of an instance that is suspended by parked activities alone, those of the
    /// first one. `None`: the instance is not suspended, or its cause is not recorded. Of activities and timers, that of their
    /// instance.
    Code,
    /// The value of this label of the instance.
    Label(String),
}

impl Dimension {
    /// Returns the key of a due time: the beginning of its minute, such as `2026-01-31T02:00:00.000Z`, which
    /// [`Timestamp`] can parse. A time before 1970 counts as the first minute of 1970.
    pub fn minute(due: Timestamp) -> String {
        const MINUTE: i64 = 60_000_000;
        let due = due.as_micros().max(0);
        Timestamp::from_micros(due - due % MINUTE).to_string()
    }

    /// Returns the key by [`Code`](Self::Code) of a suspension with this cause.
    pub fn code(cause: &str) -> String {
        cause.chars().take(7).collect()
    }
}

/// The state of an activity that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActivityState {
    /// It waits for a node, and no attempt has failed.
    Waiting,
    /// A node owns it.
    Running,
    /// It waits for its next attempt, or for a node: an attempt has failed.
    Retrying,
    /// It is rejected, and no member can try it.
    Parked,
}

impl ActivityState {
    /// Returns the state of an activity with these properties; `attempt` counts from 1.
    pub fn of(attempt: u32, is_owned: bool, is_parked: bool) -> Self {
        match (is_parked, is_owned) {
            (true, _) => Self::Parked,
            (false, true) => Self::Running,
            (false, false) if attempt > 1 => Self::Retrying,
            (false, false) => Self::Waiting,
        }
    }

    /// Returns its name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Parked => "parked",
        }
    }
}

impl fmt::Display for ActivityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The items with one value of each dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The values, in the order of the requested dimensions.
    pub key: Vec<Option<String>>,
    /// The number of items, at least 1.
    pub count: u64,
    /// Of instances that have not finished, the earliest time of creation. Of activities that wait for a node, the
    /// earliest time since which one could be claimed. `None` for timers, and if there are none.
    pub oldest: Option<Timestamp>,
    /// The earliest due time of a timer, or of an activity without an owner that waits for its next attempt. Of instances,
    /// the earliest time at which one without an owner can be claimed. It may be in the past.
    pub next: Option<Timestamp>,
}

/// The groups of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The groups, in the order of their keys.
    pub groups: Vec<Group>,
    /// False if the time limit was reached before all items were counted, or if there were more than
    /// [`LIMIT`](Self::LIMIT) groups. Then the counts are too small, and groups may be missing.
    pub complete: bool,
}

impl Groups {
    /// The maximum number of groups.
    pub const LIMIT: usize = 10_000;
}

/// Collects groups, for the author of a provider: adds up partial counts with the same key.
#[derive(Debug, Default)]
pub struct Grouping {
    groups: BTreeMap<Vec<Option<String>>, Group>,
    is_full: bool,
}

impl Grouping {
    /// Adds a partial count. A new group beyond [`Groups::LIMIT`] is left out.
    pub fn add(&mut self, part: Group) {
        if let Some(group) = self.groups.get_mut(&part.key) {
            group.count = group.count.saturating_add(part.count);
            group.oldest = earliest(group.oldest, part.oldest);
            group.next = earliest(group.next, part.next);
        } else if self.groups.len() < Groups::LIMIT {
            self.groups.insert(part.key.clone(), part);
        } else {
            self.is_full = true;
        }
    }

    /// Returns the groups. `complete` is false if items were not counted.
    pub fn finish(self, complete: bool) -> Groups {
        Groups { groups: self.groups.into_values().collect(), complete: complete && !self.is_full }
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_beyond_the_limit_are_reported() {
        let part = |n: usize| Group { key: vec![Some(n.to_string())], count: 1, oldest: None, next: None };
        let mut grouping = Grouping::default();
        (0..Groups::LIMIT).for_each(|n| grouping.add(part(n)));
        grouping.add(part(7));
        assert!(!grouping.is_full);
        grouping.add(part(Groups::LIMIT));
        let groups = grouping.finish(true);
        assert_eq!((groups.groups.len(), groups.complete), (Groups::LIMIT, false));
        assert_eq!(groups.groups.iter().map(|group| group.count).max(), Some(2));
    }

    #[test]
    fn minutes_can_be_parsed() {
        let minute = Dimension::minute(Timestamp::from_micros(119_999_999));
        assert_eq!(minute.parse(), Ok(Timestamp::from_micros(60_000_000)), "{minute}");
        assert_eq!(Dimension::minute(Timestamp::from_micros(-1)), Dimension::minute(Timestamp::from_micros(0)));
    }
}
