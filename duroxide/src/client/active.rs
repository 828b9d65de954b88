//! Counts the instances that have not finished, by name, version and state.

use std::collections::HashMap;
use std::time::Duration;

use super::{Client, ClientError};
use crate::clock::Timestamp;
use crate::provider::{Dimension, Filter, Group, InstanceStatus, Subject};
use crate::telemetry::OTHER;

/// The instances that have not finished.
pub(super) struct Active {
    pub(super) groups: Vec<ActiveGroup>,
    /// False if the time limit was reached before all instances were counted.
    pub(super) complete: bool,
}

/// The instances of one name, version and state.
pub(super) struct ActiveGroup {
    pub(super) name: String,
    /// `none` if the instance has not begun.
    pub(super) version: String,
    pub(super) state: InstanceStatus,
    pub(super) count: u64,
    /// The time since the creation of the oldest.
    pub(super) age: Duration,
}

/// The most groups that are told apart, so that the labels of the gauges are bounded.
const MAX_GROUPS: usize = 500;
type Key = (String, String, InstanceStatus);

impl Client {
    pub(super) async fn active(&self) -> Result<Active, ClientError> {
        let statuses = [InstanceStatus::Running, InstanceStatus::Suspended];
        let filter = Filter { statuses: statuses.to_vec(), ..Filter::default() };
        let by = [Dimension::Name, Dimension::Version, Dimension::Status];
        let found = self.groups(Subject::Instances, &filter, &by).await?;
        let now = self.now();
        let groups = found.groups.into_iter().filter_map(|Group { key, count, oldest, .. }| {
            let [name, version, state] = <[Option<String>; 3]>::try_from(key).ok()?;
            let state = statuses.into_iter().find(|status| state.as_deref() == Some(status.as_str()))?;
            let key = (name.unwrap_or_default(), version.unwrap_or_else(|| "none".to_owned()), state);
            Some((key, (count, oldest.unwrap_or(now))))
        });
        Ok(Active { groups: bounded(groups.collect(), now), complete: found.complete })
    }
}

/// Returns the largest groups, and adds up the others by state.
fn bounded(groups: HashMap<Key, (u64, Timestamp)>, now: Timestamp) -> Vec<ActiveGroup> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    // Ordered by name as well, so that groups of equal size do not change places.
    groups.sort_unstable_by(|(a, (a_count, _)), (b, (b_count, _))| {
        b_count.cmp(a_count).then_with(|| (&a.0, &a.1, a.2.as_str()).cmp(&(&b.0, &b.1, b.2.as_str())))
    });
    let mut others: HashMap<InstanceStatus, (u64, Timestamp)> = HashMap::new();
    for ((_, _, state), (count, oldest)) in groups.split_off(groups.len().min(MAX_GROUPS)) {
        let other = others.entry(state).or_insert((0, oldest));
        *other = (other.0 + count, other.1.min(oldest));
    }
    let others = others.into_iter().map(|(state, other)| ((OTHER.to_owned(), OTHER.to_owned(), state), other));
    let all = groups.into_iter().chain(others);
    let group = |((name, version, state), (count, oldest)): (Key, (u64, Timestamp))| ActiveGroup {
        name,
        version,
        state,
        count,
        age: now.since(oldest),
    };
    all.map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_groups_beyond_the_limit_share_one_name() {
        let group = |number: u64| {
            let key = (format!("name-{number}"), "1.0.0".to_owned(), InstanceStatus::Running);
            (key, (number, Timestamp::from_micros(number as i64)))
        };
        let groups = (1..=MAX_GROUPS as u64 + 2).map(group).collect();
        let shown = bounded(groups, Timestamp::from_micros(10));
        assert_eq!(shown.len(), MAX_GROUPS + 1);
        let other = shown.last().expect("a group");
        assert_eq!((&*other.name, other.count, other.age), (OTHER, 1 + 2, Duration::from_micros(9)));
    }
}
