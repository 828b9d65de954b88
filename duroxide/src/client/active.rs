//! Counts the instances that have not finished, by name, version and state. A pause is a state of its own: a person has
//! asked for it, while another suspension needs help.

use std::collections::HashMap;

use super::report::{Count, NONE, largest};
use super::{Client, ClientError};
use crate::clock::Timestamp;
use crate::error::ErrorCode;
use crate::provider::{Dimension, Filter, Group, InstanceStatus, Subject};

/// The instances that have not finished.
pub(super) struct Active {
    /// At most [`MAX_GROUPS`](super::report::MAX_GROUPS), and one for the others of each state.
    pub(super) groups: Vec<ActiveGroup>,
    /// Those that wait for an owner.
    pub(super) unowned: Vec<Unowned>,
    /// The number of instances of each cause, except for the reasons of pauses.
    pub(super) causes: Vec<u64>,
    /// False if the time limit was reached before all instances were counted.
    pub(super) complete: bool,
}

/// The instances of one name, version and state.
pub(super) struct ActiveGroup {
    pub(super) name: String,
    /// `none` if the instance has not begun.
    pub(super) version: String,
    pub(super) state: ActiveState,
    pub(super) count: u64,
    /// The creation of the oldest.
    pub(super) oldest: Timestamp,
}

/// The state of an instance that has not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActiveState {
    Running,
    Suspended,
    /// Suspended by a client.
    Paused,
}

impl ActiveState {
    const ALL: [Self; 3] = [Self::Running, Self::Suspended, Self::Paused];

    /// Returns the state of an instance with this stored status and this code of its suspension.
    fn of(status: &str, code: Option<&str>) -> Option<Self> {
        let is_paused = code == Some(ErrorCode::Paused.as_str());
        [(InstanceStatus::Running, Self::Running), (InstanceStatus::Suspended, Self::Suspended)]
            .into_iter()
            .find(|(stored, _)| stored.as_str() == status)
            .map(|(_, state)| if is_paused { Self::Paused } else { state })
    }

    /// Returns the value of the label `state`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Paused => "paused",
        }
    }
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
        let by = [Dimension::Name, Dimension::Version, Dimension::Status, Dimension::Code, Dimension::Node];
        let found = self.groups(Subject::Instances, &filter, &by).await?;
        let causes = self.groups(Subject::Instances, &filter, &[Dimension::Cause]).await?;
        let complete = found.complete && causes.complete;
        let now = self.now();
        let (mut groups, mut unowned) = (HashMap::new(), Vec::new());
        for Group { key, count, oldest, next } in found.groups {
            let Ok([name, version, status, code, node]) = <[Option<String>; 5]>::try_from(key) else { continue };
            let state = status.and_then(|status| ActiveState::of(&status, code.as_deref()));
            let (Some(state), name) = (state, name.unwrap_or_default()) else { continue };
            if let (None, Some(due)) = (node, next) {
                unowned.push(Unowned { name: name.clone(), version: version.clone(), count, due });
            }
            let key = [name, version.unwrap_or_else(|| NONE.to_owned()), state.as_str().to_owned()];
            groups.entry(key).or_insert_with(Count::default).add(count, oldest);
        }
        let group = |([name, version, state], counted): ([String; 3], Count)| {
            let state = ActiveState::ALL.into_iter().find(|known| known.as_str() == state)?;
            let Count { items: count, since: oldest } = counted;
            Some(ActiveGroup { name, version, state, count, oldest: oldest.unwrap_or(now) })
        };
        let groups = largest(groups).into_iter().filter_map(group).collect();
        let is_trouble = |group: &Group| {
            let cause = group.key.first().and_then(Option::as_deref);
            cause.is_some_and(|cause| Dimension::code(cause) != ErrorCode::Paused.as_str())
        };
        let causes = causes.groups.iter().filter(|group| is_trouble(group)).map(|group| group.count).collect();
        Ok(Active { groups, unowned, causes, complete })
    }
}
