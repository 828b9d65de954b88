//! Reads for people: instances, lists, nodes.

use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{EventRow, NodeInfo};
use crate::clock::Timestamp;
use crate::history::{Parent, TextMap};
use crate::id::{Epoch, EventId, ExecutionId, InstanceId};

/// Some events of a history.
#[derive(Debug, Clone, Default)]
pub struct HistoryPage {
    /// The events, oldest first.
    pub events: Vec<EventRow>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstanceStatus {
    /// It runs, or waits.
    Running,
    /// Something is wrong with its code or with what is stored of it: it stands still until it is resumed.
    Suspended,
    /// Its function returned `Ok`.
    Completed,
    /// Its function returned `Err` or panicked.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It was terminated.
    Terminated,
}

impl InstanceStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Suspended, Self::Completed, Self::Failed, Self::Cancelled, Self::Terminated];

    /// Whether it has come to its end.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Running | Self::Suspended)
    }

    /// The name that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is stored of an instance.
#[derive(Debug, Clone)]
pub struct InstanceRecord {
    /// Its current, or last, execution.
    pub execution: ExecutionId,
    /// The name of its orchestration.
    pub name: String,
    /// The version that the execution is pinned to.
    pub version: Option<Version>,
    /// Where it is in its life.
    pub status: InstanceStatus,
    /// Labels to find it by.
    pub labels: TextMap,
    /// The call that started it and waits for its outcome.
    pub parent: Option<Parent>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
    /// The last event of the execution.
    pub last_event: EventId,
    /// That event, when the instance has finished: it tells the outcome.
    pub outcome: Option<EventRow>,
    /// Why it is suspended, or why an activity of it is parked; as JSON.
    pub suspension: Option<String>,
    /// Whoever owns it.
    pub owner: Option<Epoch>,
    /// Since when something waits that no live node has the code (or the tag) for: the instance itself, or an activity of it.
    pub unclaimed: Option<Unclaimed>,
}

/// Work that no live node can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    /// What would be needed, for people: `orchestration checkout 2.0.0`, `activity ship with tag warehouse`.
    pub what: String,
    /// Since when it has been due.
    pub since: Timestamp,
}

/// Which instances to list. Everything that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The name of the orchestration.
    pub name: Option<String>,
    /// One of these; empty: any.
    pub statuses: Vec<InstanceStatus>,
    /// These labels with these values.
    pub labels: TextMap,
    /// Created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
    /// The instance that started it.
    pub parent: Option<InstanceId>,
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many instances at most.
    pub limit: usize,
    /// Where the page before this one ended.
    pub after: Option<PageToken>,
}

/// The end of a page. Stays valid whatever is created or deleted meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageToken {
    /// When the last instance was created.
    pub created_at: Timestamp,
    /// Its id.
    pub instance: InstanceId,
}

/// A part of a list: newest first, and by id among those of the same time.
#[derive(Debug, Clone, Default)]
pub struct InstancePage {
    /// The instances. `outcome` and `unclaimed` are left out.
    pub instances: Vec<InstanceRecord>,
    /// Where to go on, if there is more.
    pub next: Option<PageToken>,
}

/// Why an instance was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// There is no such instance.
    #[error("there is no such instance")]
    NotFound,
    /// It has not finished: cancel or terminate it first.
    #[error("the instance is {0}; only finished ones can be deleted: cancel or terminate it first")]
    Live(InstanceStatus),
}

/// A node that is a member.
#[derive(Debug, Clone)]
pub struct NodeRecord {
    /// As it presented itself.
    pub info: NodeInfo,
    /// Its term.
    pub epoch: Epoch,
    /// How many instances it owns.
    pub instances: u64,
    /// How many activities it owns.
    pub activities: u64,
}
