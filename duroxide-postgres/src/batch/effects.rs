//! The rows that a batch writes, beside those that the model itself holds.

use std::collections::BTreeMap;

use duroxide::Timestamp;
use duroxide::id::{ActivityId, CallId, Epoch, MessageId};
use duroxide::provider::{AttemptRecord, AuditEntry, StoredPause};
use uuid::Uuid;

use super::model::DedupEntry;
use crate::events::EventsRow;

/// A failed attempt of an activity of an instance.
pub(super) struct AttemptRow {
    pub(super) seq: i64,
    pub(super) record: AttemptRecord,
}

/// A stored start that is due earlier now.
pub(super) struct WokenStart {
    pub(super) id: MessageId,
    pub(super) time: Timestamp,
    /// The number that it has now.
    pub(super) number: Option<u64>,
}

#[derive(Default)]
pub(super) struct Effects {
    /// Stored messages that are removed.
    pub(super) removed_messages: Vec<(i64, MessageId)>,
    /// Instances whose stored messages are all removed.
    pub(super) emptied: Vec<i64>,
    /// Executions whose stored messages are removed.
    pub(super) ended: Vec<(i64, u64)>,
    /// Calls of executions whose delayed messages are removed.
    pub(super) cancelled_timers: Vec<(i64, u64, CallId)>,
    pub(super) attempts: Vec<AttemptRow>,
    pub(super) removed_activities: Vec<(i64, u64, CallId)>,
    pub(super) events: Vec<(i64, u64, EventsRow)>,
    /// Executions that were continued as new.
    pub(super) continued: Vec<(i64, u64, Timestamp)>,
    pub(super) labels: Vec<(i64, String, String)>,
    /// The highest number of a message, by the owner of its instance and the instance.
    pub(super) mail: BTreeMap<(Epoch, i64), u64>,
    pub(super) cancellations: Vec<(Epoch, ActivityId)>,
    /// Items whose rejections are forgotten, before others are recorded.
    pub(super) forgotten: Vec<(i64, u64, CallId)>,
    pub(super) rejections: Vec<(i64, u64, CallId, String)>,
    pub(super) dedup: Vec<(Uuid, DedupEntry)>,
    pub(super) audit: Vec<AuditEntry>,
    /// The new pauses of instances; `None`: the pause has ended, if there was one.
    pub(super) pauses: BTreeMap<i64, Option<StoredPause>>,
    /// Stored starts of instances that are due earlier now.
    pub(super) woken_starts: BTreeMap<i64, WokenStart>,
}
