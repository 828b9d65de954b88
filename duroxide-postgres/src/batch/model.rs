//! The rows that a batch concerns, in memory: as they were read, and as the entries change them.

use std::collections::{BTreeMap, HashMap, HashSet};

use duroxide::Timestamp;
use duroxide::history::{TextMap, Waits};
use duroxide::id::{
    ActivityId, CallId, CommitId, Epoch, EventId, ExecutionId, Identity, InstanceId, MessageId, NodeId,
};
use duroxide::provider::{InstanceStatus, Lane, MessageRow, NewActivity, Placement, Ready, Signals};
use uuid::Uuid;

use super::effects::Effects;
use crate::rollout::Members;
use crate::rows::stored_ready;
use crate::work::Work;

/// The recorded result of a request that is sent again.
#[derive(Debug, Clone, Copy)]
pub(super) enum DedupEntry {
    /// It was carried out.
    Done,
    /// It was refused because of an instance with this status, or because there was none.
    Refused(Option<InstanceStatus>),
}

/// The record of the owners that died while an item was in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CrashRecord {
    pub(super) crashes: i32,
    /// True if its owner owns nothing else.
    pub(super) alone: bool,
    pub(super) suspect: bool,
    /// The node of the last crash.
    pub(super) lost_by: Option<NodeId>,
}

/// The way of an instance into the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It has a row in `live`, and had this status.
    Live(InstanceStatus),
    /// It had finished.
    Finished,
    /// The batch creates it.
    New,
}

/// The change of a row in `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queueing {
    Unchanged,
    /// The instance becomes ready at this time, unless it is ready earlier.
    Least(i64),
    /// The row is rebuilt from the stored messages.
    Rebuild,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) seq: i64,
    pub(super) identity: Identity,
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) status: InstanceStatus,
    pub(super) execution: u64,
    pub(super) last_event: EventId,
    pub(super) owner: Option<Epoch>,
    /// The claim by which it is owned.
    pub(super) claim: u64,
    /// The last number given to a message.
    pub(super) arrivals: u64,
    /// The number of messages ever stored.
    pub(super) stored: i64,
    pub(super) crashes: CrashRecord,
    /// The reason for which a build has last rejected it. Cleared by a turn that makes progress.
    pub(super) suspension: Option<String>,
    pub(super) rejected_by: HashSet<String>,
    /// The cause of the suspension or of the failure.
    pub(super) cause: Option<String>,
    pub(super) waits: Option<Waits>,
    pub(super) updated_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) last_commit: Option<CommitId>,
    /// The messages that the batch names: stored ones, and new ones.
    pub(super) messages: HashMap<MessageId, Known>,
    /// New messages, by arrival.
    pub(super) new_messages: BTreeMap<i64, NewMessage>,
    pub(super) origin: Origin,
    /// True if the row in `live` is to be written.
    pub(super) is_changed: bool,
    pub(super) queueing: Queueing,
}

impl Instance {
    /// Returns an instance of the batch without an owner, messages or events.
    pub(super) fn new(seq: i64, identity: Identity, name: String, version: Option<String>, time: Timestamp) -> Self {
        Self {
            seq,
            identity,
            name,
            version,
            status: InstanceStatus::Running,
            execution: 1,
            last_event: EventId(0),
            owner: None,
            claim: 0,
            arrivals: 0,
            stored: 0,
            crashes: CrashRecord::default(),
            suspension: None,
            rejected_by: HashSet::new(),
            cause: None,
            waits: None,
            updated_at: time,
            finished_at: None,
            last_commit: None,
            messages: HashMap::new(),
            new_messages: BTreeMap::new(),
            origin: Origin::New,
            is_changed: false,
            queueing: Queueing::Unchanged,
        }
    }
}

/// A message of an instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) number: Option<u64>,
    pub(super) execution: Option<u64>,
    pub(super) call: Option<CallId>,
    pub(super) is_delayed: bool,
    pub(super) is_start: bool,
    /// True if its id must be recorded when it is removed.
    pub(super) sent: bool,
    /// Its key in `new_messages`. `None`: it is stored.
    pub(super) new: Option<i64>,
}

#[derive(Debug)]
pub(super) struct NewMessage {
    pub(super) row: MessageRow,
    pub(super) time: Timestamp,
    pub(super) sent: bool,
}

/// The state of an activity relative to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowState {
    Stored,
    Changed,
    New,
}

#[derive(Debug)]
pub(super) struct Activity {
    pub(super) seq: i64,
    pub(super) name: String,
    pub(super) tag: Option<String>,
    pub(super) scheduled: EventId,
    pub(super) detached: bool,
    pub(super) headers: TextMap,
    pub(super) attempt: u32,
    pub(super) ready_at: i64,
    pub(super) owner: Option<Epoch>,
    pub(super) claim: u64,
    pub(super) crashes: CrashRecord,
    /// The reason for which a build has last rejected it.
    pub(super) rejected: Option<String>,
    pub(super) rejected_by: HashSet<String>,
    /// True if it is rejected and no member can try it.
    pub(super) parked: bool,
    /// The cause that it shows: while it is parked, that of its rejection; otherwise that of its last failed attempt.
    pub(super) cause: Option<String>,
    /// The other one of the two.
    pub(super) other_cause: Option<String>,
    pub(super) state: RowState,
}

impl Activity {
    /// Returns a new activity without an owner.
    pub(super) fn new(seq: i64, new: &NewActivity, ready: Ready) -> Self {
        Self {
            seq,
            name: new.name.clone(),
            tag: new.tag.clone(),
            scheduled: new.scheduled,
            detached: new.detached,
            headers: new.headers.clone(),
            attempt: 1,
            ready_at: stored_ready(ready),
            owner: None,
            claim: 0,
            crashes: CrashRecord::default(),
            rejected: None,
            rejected_by: HashSet::new(),
            parked: false,
            cause: None,
            other_cause: None,
            state: RowState::New,
        }
    }

    /// Parks or releases a rejected activity, which then shows its other cause.
    pub(super) fn set_parked(&mut self, parked: bool) {
        if self.parked != parked {
            self.parked = parked;
            std::mem::swap(&mut self.cause, &mut self.other_cause);
        }
    }
}

/// An instance id that the batch has reserved by a row in `instances`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    pub(super) seq: i64,
    pub(super) identity: Identity,
    pub(super) is_used: bool,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) members: Members,
    /// The latest time named by a call, if any.
    pub(super) named: Option<Timestamp>,
    /// The time of the database.
    pub(super) now: Timestamp,
    pub(super) instances: HashMap<InstanceId, Instance>,
    pub(super) activities: BTreeMap<ActivityId, Activity>,
    pub(super) dedup: HashMap<Uuid, DedupEntry>,
    /// The stored starts with a time of their own, of instances that are woken.
    pub(super) delayed_starts: HashMap<InstanceId, (MessageId, Timestamp)>,
    /// Ids that the batch may create.
    pub(super) reserved: HashMap<InstanceId, Reserved>,
    /// Ids that the batch wants to create and that are taken.
    pub(super) taken: HashSet<InstanceId>,
    /// True if an entry needs the batch for itself, because an id was reserved for another one.
    pub(super) is_split: bool,
    /// The result of an erasure, which is the only entry of its batch.
    pub(super) redacted: Option<super::redact::Redacted>,
    pub(super) effects: Effects,
    pub(super) signals: Signals,
    /// The work for certain nodes.
    pub(super) work: Work,
}

impl Instance {
    pub(super) fn numbered(&self, id: &InstanceId, number: u64) -> ExecutionId {
        ExecutionId { instance: id.clone(), identity: self.identity, number }
    }

    pub(super) fn current(&self, id: &InstanceId) -> ExecutionId {
        self.numbered(id, self.execution)
    }

    pub(super) fn waits(&self) -> bool {
        self.owner.is_none() && self.status == InstanceStatus::Running
    }
}

impl Model {
    pub(super) fn saw(&mut self, time: Timestamp) {
        self.named = self.named.max(Some(time));
    }

    /// Returns the latest time named by a call; before the first one, the time of the database.
    pub(super) fn latest(&self) -> Timestamp {
        self.named.unwrap_or(self.now)
    }

    /// Returns true if there is an instance with this id.
    pub(super) fn exists(&self, id: &InstanceId) -> bool {
        self.instances.contains_key(id) || self.taken.contains(id)
    }

    /// Rebuilds the queue entry of an instance.
    pub(super) fn requeue(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.is_changed = true;
        instance.queueing = Queueing::Rebuild;
        // Only the database knows if there are messages. A needless signal costs a request.
        if instance.waits() {
            self.work.add_instance(&instance.name, instance.version.as_deref());
        }
    }

    /// Returns true if an item of the past has returned to a queue.
    pub(super) fn puts_back(&self) -> bool {
        let is_put_back = |activity: &Activity| activity.state == RowState::Changed && activity.owner.is_none();
        let requeued = |instance: &Instance| instance.queueing == Queueing::Rebuild && instance.owner.is_none();
        self.instances.values().any(requeued) || self.activities.values().any(is_put_back)
    }

    /// Changes an activity.
    pub(super) fn change_activity(&mut self, id: &ActivityId, change: impl FnOnce(&mut Activity)) {
        let Some(activity) = self.activities.get_mut(id) else { return };
        change(activity);
        if activity.state == RowState::Stored {
            activity.state = RowState::Changed;
        }
        if activity.owner.is_none() && !activity.parked {
            self.work.add_activity(&activity.name, activity.tag.as_deref());
        }
    }

    /// Removes an activity. A node that runs it gets a cancellation, unless it is the node of epoch `by`, which removes
    /// the activity itself.
    pub(super) fn remove_activity(&mut self, id: &ActivityId, by: Option<Epoch>) {
        let Some(activity) = self.activities.remove(id) else { return };
        if activity.state != RowState::New {
            self.effects.removed_activities.push((activity.seq, id.execution.number, id.call));
        }
        if let Some(owner) = activity.owner.filter(|owner| Some(*owner) != by) {
            self.effects.cancellations.push((owner, id.clone()));
            self.work.owners.insert(owner);
        }
    }

    /// Returns the known activities of an execution, or those of all executions of an instance.
    pub(super) fn activities_of(&self, instance: &InstanceId, execution: Option<u64>) -> Vec<ActivityId> {
        let Some(row) = self.instances.get(instance) else { return Vec::new() };
        let at = |number, call| ActivityId { execution: row.numbered(instance, number), call };
        let from = at(execution.unwrap_or(0), CallId(0));
        let to = at(execution.unwrap_or(u64::MAX), CallId(u64::MAX));
        self.activities.range(from..=to).map(|(id, _)| id.clone()).collect()
    }

    /// Delivers a message, unless the instance has finished or the message is for another execution.
    pub(super) fn deliver(&mut self, to: &InstanceId, mut row: MessageRow, time: Timestamp, sent: bool) -> Placement {
        let Some(instance) = self.instances.get_mut(to) else { return Placement::Refused };
        let wrong = row.execution.is_some_and(|number| number != instance.execution);
        if instance.status.is_finished() || wrong {
            return Placement::Refused;
        }
        let identity = instance.identity;
        let placed = |number| move |epoch| Placement::Owned { epoch, identity, number };
        if let Some(known) = instance.messages.get(&row.id) {
            return instance.owner.map_or(Placement::Queued, placed(known.number));
        }
        if row.visible_at.is_none() {
            instance.arrivals += 1;
            row.number = Some(instance.arrivals);
        }
        let placement = instance.owner.map_or(Placement::Queued, placed(row.number));
        instance.stored += 1;
        instance.is_changed = true;
        let known = Known {
            number: row.number,
            execution: row.execution,
            call: row.call,
            is_delayed: row.visible_at.is_some(),
            is_start: row.lane == Lane::Start,
            sent,
            new: Some(instance.stored),
        };
        instance.messages.insert(row.id, known);
        if instance.waits() {
            let ready = stored_ready(Ready::by_message(row.visible_at, time));
            instance.queueing = match instance.queueing {
                Queueing::Unchanged => Queueing::Least(ready),
                Queueing::Least(before) => Queueing::Least(before.min(ready)),
                Queueing::Rebuild => Queueing::Rebuild,
            };
            self.work.add_instance(&instance.name, instance.version.as_deref());
        }
        // Any node ends an instance without an owner.
        self.signals.work |= row.lane == Lane::End && instance.owner.is_none();
        instance.new_messages.insert(instance.stored, NewMessage { row, time, sent });
        placement
    }

    /// Leaves mail for the owner of an instance, unless the owner is the epoch that forwards the message itself.
    pub(super) fn leave_mail(&mut self, to: &InstanceId, placement: Placement, forwarded_by: Option<Epoch>) {
        let Placement::Owned { epoch, number: Some(number), .. } = placement else { return };
        if Some(epoch) != forwarded_by
            && let Some(instance) = self.instances.get(to)
        {
            let upto = self.effects.mail.entry((epoch, instance.seq)).or_default();
            *upto = number.max(*upto);
            self.work.owners.insert(epoch);
        }
    }

    /// Removes a known message. Records its id if a client sent it.
    pub(super) fn remove_message(&mut self, from: &InstanceId, id: MessageId) {
        let Some(instance) = self.instances.get_mut(from) else { return };
        let Some(known) = instance.messages.remove(&id) else { return };
        instance.is_changed = true;
        match known.new {
            Some(arrival) => {
                instance.new_messages.remove(&arrival);
                if known.sent {
                    self.record_as(id.0, DedupEntry::Done);
                }
            }
            None => {
                self.effects.removed_messages.push((instance.seq, id));
                if known.sent {
                    // The statement that removes the message records its id.
                    self.dedup.entry(id.0).or_insert(DedupEntry::Done);
                }
            }
        }
    }

    /// Removes the known messages of an instance that fit. The statements remove the other stored ones.
    pub(super) fn remove_messages(&mut self, from: &InstanceId, fits: impl Fn(&Known) -> bool) {
        let Some(instance) = self.instances.get(from) else { return };
        let ids: Vec<_> = instance.messages.iter().filter(|(_, known)| fits(known)).map(|(id, _)| *id).collect();
        for id in ids {
            self.remove_message(from, id);
        }
    }

    /// Forgets the rejections of an item: of an instance (execution 0, call 0) or of an activity.
    pub(super) fn forget_rejections(&mut self, seq: i64, execution: u64, call: CallId) {
        self.effects.rejections.retain(|(s, e, c, _)| (*s, *e, *c) != (seq, execution, call));
        self.effects.forgotten.push((seq, execution, call));
    }

    pub(super) fn record_as(&mut self, id: Uuid, entry: DedupEntry) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.dedup.entry(id) {
            vacant.insert(entry);
            self.effects.dedup.push((id, entry));
        }
    }
}
