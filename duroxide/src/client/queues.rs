//! Counts the activities that have not ended, by name, tag and state.

use std::collections::HashMap;

use super::report::{Count, NONE, largest};
use super::{Client, ClientError};
use crate::clock::Timestamp;
use crate::provider::{Dimension, Filter, Group, Subject};

/// The activities that have not ended.
pub(super) struct Queues {
    /// At most [`MAX_GROUPS`](super::report::MAX_GROUPS), and one for the others of each state.
    pub(super) groups: Vec<QueueGroup>,
    /// Those that wait for a node, by name and tag.
    pub(super) waiting: Vec<Waiting>,
    /// False if the time limit was reached before all activities were counted.
    pub(super) complete: bool,
}

/// The activities of one name, tag and state.
pub(super) struct QueueGroup {
    pub(super) name: String,
    /// `none` if there is none.
    pub(super) tag: String,
    pub(super) state: String,
    pub(super) count: u64,
    /// The time since which one could be claimed, or will be.
    pub(super) due: Option<Timestamp>,
}

/// The activities of one name and tag that have no owner.
pub(super) struct Waiting {
    pub(super) name: String,
    pub(super) tag: Option<String>,
    pub(super) count: u64,
    pub(super) due: Timestamp,
}

impl Client {
    pub(super) async fn queues(&self) -> Result<Queues, ClientError> {
        let by = [Dimension::Name, Dimension::Tag, Dimension::State];
        let found = self.groups(Subject::Activities, &Filter::default(), &by).await?;
        let (mut groups, mut waiting) = (HashMap::new(), Vec::new());
        for Group { key, count, oldest, next } in found.groups {
            let Ok([name, tag, state]) = <[Option<String>; 3]>::try_from(key) else { continue };
            let (name, due) = (name.unwrap_or_default(), oldest.into_iter().chain(next).min());
            if let Some(due) = due {
                waiting.push(Waiting { name: name.clone(), tag: tag.clone(), count, due });
            }
            let key = [name, tag.unwrap_or_else(|| NONE.to_owned()), state.unwrap_or_default()];
            groups.insert(key, Count { items: count, since: due });
        }
        let group = |([name, tag, state], counted): ([String; 3], Count)| {
            let Count { items: count, since: due } = counted;
            QueueGroup { name, tag, state, count, due }
        };
        let groups = largest(groups).into_iter().map(group).collect();
        Ok(Queues { groups, waiting, complete: found.complete })
    }
}
