//! What an instance is doing.

use crate::clock::Timestamp;
use crate::error::{ErrorCode, Suspension};
use crate::history::{Parent, TextMap};
use crate::id::{EventId, ExecutionId};
use crate::provider::{InstanceRecord, InstanceStatus, Unclaimed};

/// What is known of an instance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The instance, and its current or last execution.
    pub execution: ExecutionId,
    /// The name of its orchestration.
    pub name: String,
    /// The version that it is pinned to, once it has begun.
    pub version: Option<semver::Version>,
    /// Where it is in its life.
    pub status: InstanceStatus,
    /// Why it is suspended, or why an activity of it is set aside.
    pub suspension: Option<Suspension>,
    /// What it waits for that no live node can do, and since when.
    pub unclaimed: Option<Unclaimed>,
    /// Its labels.
    pub labels: TextMap,
    /// The call that started it and waits for its outcome.
    pub parent: Option<Parent>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
    /// How many events its history has.
    pub events: EventId,
    /// Why the stored instance cannot be read in full. Fields that cannot be read are empty then, and a status that cannot be
    /// read shows as suspended.
    pub damaged: Option<String>,
}

impl From<InstanceRecord> for Status {
    fn from(record: InstanceRecord) -> Self {
        Self {
            execution: record.execution,
            name: record.name,
            version: record.version,
            status: record.status,
            suspension: record.suspension.map(|json| suspension(&json)),
            unclaimed: record.unclaimed,
            labels: record.labels,
            parent: record.parent,
            created_at: record.created_at,
            updated_at: record.updated_at,
            finished_at: record.finished_at,
            events: record.last_event,
            damaged: record.damaged,
        }
    }
}

/// Reads the reason of a suspension. One that a newer version wrote is shown as it is.
fn suspension(json: &str) -> Suspension {
    serde_json::from_str(json).unwrap_or_else(|_| Suspension::new(ErrorCode::UnreadableEvent, json))
}
