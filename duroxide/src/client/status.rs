//! The status of an instance, as a client reads it.

use crate::clock::Timestamp;
use crate::error::{ErrorCode, Suspension};
use crate::history::{Parent, TextMap, Waits};
use crate::id::{EventId, ExecutionId};
use crate::provider::{InstanceRecord, InstanceStatus, Unclaimed};

/// The status of an instance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The current or last execution, with the id of the instance.
    pub execution: ExecutionId,
    /// The name of its orchestration.
    pub name: String,
    /// The version that the execution is pinned to. `None` until its first turn is committed.
    pub version: Option<semver::Version>,
    /// The state of the instance: running, suspended or finished.
    pub status: InstanceStatus,
    /// The reason why it is suspended, or why one of its activities is parked.
    pub suspension: Option<Suspension>,
    /// The cause of its failure or suspension: a text that failures with one cause share, regardless of the ids and
    /// numbers in their messages. Instances are found and counted by it ([`Filter::cause`](crate::Filter::cause),
    /// [`Dimension::Cause`](crate::provider::Dimension::Cause)).
    pub cause: Option<String>,
    /// The calls that it waits for, since when, and until when at the latest; as its last turn recorded them.
    pub waits: Option<Waits>,
    /// The work of the instance that no live node can claim, and the time since when.
    pub unclaimed: Option<Unclaimed>,
    /// Its labels.
    pub labels: TextMap,
    /// The call that started it and waits for its outcome.
    pub parent: Option<Parent>,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its last change.
    pub updated_at: Timestamp,
    /// The time at which it finished.
    pub finished_at: Option<Timestamp>,
    /// The number of events in the history of the execution.
    pub events: EventId,
    /// The reason why the stored instance cannot be read in full, if so. Fields that cannot be read are then empty, and
    /// a status that cannot be read is shown as suspended.
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
            cause: record.cause,
            waits: record.waits,
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

/// Parses the reason of a suspension. A reason that this version cannot parse, since a newer one wrote it, is shown as
/// text.
fn suspension(json: &str) -> Suspension {
    serde_json::from_str(json).unwrap_or_else(|_| Suspension::new(ErrorCode::UnreadableEvent, json))
}
