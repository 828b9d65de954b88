//! Counts the instances that have not finished, by name, version and state.

use std::collections::HashMap;

use super::report::{Count, NONE, largest};
use super::{Client, ClientError};
use crate::clock::Timestamp;
use crate::provider::{Dimension, Filter, Group, InstanceStatus, Subject};

/// The instances that have not finished.
pub(super) struct Active {
    /// At most [`MAX_GROUPS`](super::report::MAX_GROUPS), and one for the others of each state.
    pub(super) groups: Vec<ActiveGroup>,
    /// Those that wait for an owner.
    pub(super) unowned: Vec<Unowned>,
    /// The number of instances of each cause.
    pub(super) causes: Vec<u64>,
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
    /// The creation of the oldest.
    pub(super) oldest: Timestamp,
}

/// The instances of one name and version that have no owner.
pub(super) struct Unowned {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) count: u64,
    /// The time since which one can be claimed, or will be.
    pub(super) due: Timestamp,
}

impl Client {
    pub(super) async fn active(&self) -> Result<Active, ClientError> {
        let statuses = [InstanceStatus::Running, InstanceStatus::Suspended];
        let filter = Filter { statuses: statuses.to_vec(), ..Filter::default() };
        let by = [Dimension::Name, Dimension::Version, Dimension::Status, Dimension::Node];
        let found = self.groups(Subject::Instances, &filter, &by).await?;
        let causes = self.groups(Subject::Instances, &filter, &[Dimension::Cause]).await?;
        let complete = found.complete && causes.complete;
        let now = self.now();
        let (mut groups, mut unowned) = (HashMap::new(), Vec::new());
        for Group { key, count, oldest, next } in found.groups {
            let Ok([name, version, state, node]) = <[Option<String>; 4]>::try_from(key) else { continue };
            let state = statuses.into_iter().find(|status| state.as_deref() == Some(status.as_str()));
            let (Some(state), name) = (state, name.unwrap_or_default()) else { continue };
            if let (None, Some(due)) = (node, next) {
                unowned.push(Unowned { name: name.clone(), version: version.clone(), count, due });
            }
            let key = [name, version.unwrap_or_else(|| NONE.to_owned()), state.to_string()];
            groups.entry(key).or_insert_with(Count::default).add(count, oldest);
        }
        let group = |([name, version, state], counted): ([String; 3], Count)| {
            let state = statuses.into_iter().find(|status| status.as_str() == state)?;
            let Count { items: count, since: oldest } = counted;
            Some(ActiveGroup { name, version, state, count, oldest: oldest.unwrap_or(now) })
        };
        let groups = largest(groups).into_iter().filter_map(group).collect();
        let causes = causes.groups.into_iter().filter(|group| group.key != [None]).map(|group| group.count).collect();
        Ok(Active { groups, unowned, causes, complete })
    }
}
