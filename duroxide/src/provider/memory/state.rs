//! The rows, and the operations on them that several calls share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque, hash_map};
use std::sync::Arc;

use semver::Version;
use tokio::time::Instant;
use uuid::Uuid;

use super::queue::Queue;
use super::*;
use crate::history::{Parent, TextMap, Waits};
use crate::id::{ActivityId, AuditId, CallId, CommitId, Identity, MessageId};

#[derive(Default)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<Epoch, Node>,
    pub(super) last_epoch: u64,
    /// The nodes that have departed, the last one at the end.
    pub(super) departed: VecDeque<DepartedNode>,
    /// The builds, by id. Those in use may be beyond the number of kept ones.
    pub(super) builds: BTreeMap<String, Build>,
    /// The arrival number of the newest instance.
    pub(super) last_instance: i64,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) activities: BTreeMap<ActivityId, Activity>,
    /// The audit, the ids of its entries, and the number of the newest one.
    pub(super) audit: BTreeMap<i64, AuditEntry>,
    pub(super) audit_ids: HashSet<AuditId>,
    pub(super) last_audit: i64,
    /// All messages, by arrival.
    pub(super) messages: BTreeMap<i64, QueuedMessage>,
    /// The requests to terminate, by instance and arrival.
    pub(super) ends: BTreeSet<(InstanceId, i64)>,
    /// The arrival of the last message.
    pub(super) last_arrival: i64,
    /// The last number that a transaction took for each instance before the transaction became visible.
    #[cfg(feature = "testing")]
    pub(super) taken: BTreeMap<InstanceId, u64>,
    /// The beginning of the transaction that is being applied.
    pub(super) begun: Begun,
    /// The concurrent transactions of the claim that is being carried out.
    pub(super) beside: Beside,
    /// True if any node has crashed; until then, no item can be in quarantine.
    pub(super) has_crashed: bool,
    /// Instances that wait for an owner.
    pub(super) ready: Queue<InstanceId>,
    /// Activities that wait for an owner.
    pub(super) queue: BTreeMap<String, Queue<ActivityId>>,
    /// The ids of processed requests, each with its time and result: messages of clients that were consumed,
    /// terminations, starts of removed instances, and requests that were refused when they were sent again.
    done: HashMap<Uuid, DedupEntry>,
    /// When they were recorded, by the monotonic clock.
    done_at: VecDeque<(Instant, Uuid)>,
    /// The latest time named by a call.
    pub(super) latest: Timestamp,
    pub(super) signals: Signals,
}

/// The recorded result of a request that is sent again.
#[derive(Clone, Copy)]
pub(super) enum DedupEntry {
    /// It was carried out.
    Done,
    /// It was refused because of an instance with this status, or because there was none.
    Refused(Option<InstanceStatus>),
}

pub(super) struct Node {
    pub(super) info: NodeInfo,
    pub(super) dead: bool,
    /// Its last report.
    pub(super) report: NodeReport,
    /// When it joined, or renewed its lease.
    pub(super) seen_at: Timestamp,
    /// Owned activities whose outcome is no longer wanted, until the node has acknowledged the cancellation.
    pub(super) cancelled: BTreeSet<ActivityId>,
    /// Owned instances with messages that were not forwarded to the node, each with the highest number, until the node
    /// has acknowledged them.
    pub(super) mail: BTreeMap<InstanceId, u64>,
    /// The number of its last claim.
    pub(super) claim: u64,
}

/// A build that a node had.
pub(super) struct Build {
    pub(super) code: Arc<BuildCode>,
    pub(super) orchestrations: Vec<(String, Version)>,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// Its position in the order in which builds were seen last.
    pub(super) seen: u64,
}

impl Node {
    /// Makes the row of a node that joins at this time, by the clocks of earlier requests.
    pub(super) fn new(info: NodeInfo, now: Timestamp) -> Self {
        let seen_at = now.max(info.details.started_at.unwrap_or_default());
        let (report, cancelled, mail) = (NodeReport::default(), BTreeSet::new(), BTreeMap::new());
        Self { info, dead: false, report, seen_at, cancelled, mail, claim: 0 }
    }
}

pub(super) struct Instance {
    /// Its position in the order of arrival.
    pub(super) arrival: i64,
    pub(super) name: String,
    pub(super) version: Option<Version>,
    pub(super) status: InstanceStatus,
    pub(super) labels: TextMap,
    pub(super) parent: Option<Parent>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    /// The number of the current execution.
    pub(super) execution: u64,
    pub(super) executions: HashMap<u64, Execution>,
    /// The reason for which a build has last rejected it. Cleared by a turn that makes progress.
    pub(super) suspension: Option<String>,
    /// The cause of the suspension or of the failure.
    pub(super) cause: Option<String>,
    pub(super) waits: Option<Waits>,
    /// Set while a client has suspended it.
    pub(super) paused: Option<StoredPause>,
    pub(super) rejected_by: HashSet<String>,
    pub(super) start: MessageId,
    pub(super) last_commit: Option<CommitId>,
    pub(super) messages: HashMap<MessageId, i64>,
    /// Those of the messages that are for one execution.
    pub(super) for_execution: HashMap<u64, HashSet<MessageId>>,
    /// The last number given to a message.
    pub(super) arrivals: u64,
    pub(super) ready: Option<Ready>,
    pub(super) owner: Option<Epoch>,
    /// The claim by which it is owned.
    pub(super) claim: u64,
    pub(super) crashes: CrashRecord,
}

#[derive(Default)]
pub(super) struct Execution {
    pub(super) events: Vec<EventRow>,
    /// The kept failed attempts of its activities.
    pub(super) attempts: BTreeMap<(CallId, u32), AttemptRecord>,
    pub(super) continued_at: Option<Timestamp>,
}

/// The record of the owners that died while an item was in flight.
#[derive(Clone, Copy, Default)]
pub(super) struct CrashRecord {
    pub(super) crashes: u32,
    /// True if its owner owns nothing else.
    pub(super) alone: bool,
    pub(super) suspect: bool,
    /// The node of the last crash.
    pub(super) lost_by: Option<NodeId>,
}

impl CrashRecord {
    /// Returns true if only a node without other work may claim the item.
    pub(super) fn quarantined(self) -> bool {
        self.crashes >= QUARANTINE && !self.suspect
    }

    pub(super) fn crashed(&mut self, node: NodeId) {
        self.crashes = self.crashes.saturating_add(1);
        self.suspect |= self.alone && self.crashes >= CRASH_LIMIT;
        self.alone = false;
        self.lost_by = Some(node);
    }

    /// Reverts the last crash if it was counted to this node, which is alive.
    pub(super) fn take_back(&mut self, node: NodeId) {
        if self.lost_by.take_if(|lost_by| *lost_by == node).is_some() {
            self.crashes = self.crashes.saturating_sub(1);
            self.suspect &= self.crashes >= CRASH_LIMIT;
        }
    }
}

pub(super) struct Activity {
    pub(super) name: String,
    pub(super) tag: Option<String>,
    pub(super) scheduled: EventId,
    pub(super) detached: bool,
    pub(super) headers: TextMap,
    pub(super) attempt: u32,
    pub(super) ready: Ready,
    /// The reason for which a build has last rejected it.
    pub(super) rejected: Option<String>,
    pub(super) rejected_by: HashSet<String>,
    /// True if it is rejected and no member can try it.
    pub(super) parked: bool,
    /// The cause that it shows: while it is parked, that of its rejection; otherwise that of its last failed attempt.
    pub(super) cause: Option<String>,
    /// The other one of the two.
    pub(super) other_cause: Option<String>,
    pub(super) owner: Option<Epoch>,
    /// The claim by which it is owned.
    pub(super) claim: u64,
    pub(super) crashes: CrashRecord,
}

impl Activity {
    /// Returns a new activity without an owner.
    pub(super) fn new(new: NewActivity, ready: Ready) -> Self {
        Self {
            name: new.name,
            tag: new.tag,
            scheduled: new.scheduled,
            detached: new.detached,
            headers: new.headers,
            attempt: 1,
            ready,
            rejected: None,
            rejected_by: HashSet::new(),
            parked: false,
            cause: None,
            other_cause: None,
            owner: None,
            claim: 0,
            crashes: CrashRecord::default(),
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

pub(super) struct QueuedMessage {
    pub(super) to: InstanceId,
    pub(super) row: MessageRow,
    /// The time at which it becomes visible; without such a time, the time at which it was stored.
    pub(super) at: Timestamp,
    pub(super) stored_at: Timestamp,
    /// True if its id must be recorded when it is removed.
    pub(super) sent: bool,
}

impl QueuedMessage {
    pub(super) fn key(&self, arrival: i64) -> DeliveryKey<&InstanceId> {
        let delayed = self.row.visible_at.is_some();
        DeliveryKey { instance: &self.to, lane: self.row.lane, arrival, delayed, at: self.at }
    }

    fn ready(&self) -> Ready {
        Ready::by_message(self.row.visible_at, self.at)
    }
}

impl Instance {
    fn new(arrival: i64, new: &NewInstance, owner: Option<Epoch>, time: Timestamp) -> Self {
        Self {
            arrival,
            name: new.name.clone(),
            version: new.version.clone(),
            status: InstanceStatus::Running,
            labels: new.labels.clone(),
            parent: new.parent.clone(),
            created_at: time,
            updated_at: time,
            finished_at: None,
            execution: 1,
            executions: HashMap::from([(1, Execution::default())]),
            suspension: None,
            cause: None,
            waits: None,
            paused: None,
            rejected_by: HashSet::new(),
            start: new.start.id,
            last_commit: None,
            messages: HashMap::new(),
            for_execution: HashMap::new(),
            arrivals: 0,
            ready: None,
            owner,
            claim: 0,
            crashes: CrashRecord::default(),
        }
    }

    pub(super) fn identity(&self) -> Identity {
        self.start.into()
    }

    /// Returns its current execution.
    pub(super) fn current(&self, id: &InstanceId) -> ExecutionId {
        self.numbered(id, self.execution)
    }

    pub(super) fn numbered(&self, id: &InstanceId, number: u64) -> ExecutionId {
        ExecutionId { instance: id.clone(), identity: self.identity(), number }
    }

    pub(super) fn last_event(&self) -> EventId {
        let events = self.executions.get(&self.execution).map(|e| e.events.as_slice());
        events.and_then(<[_]>::last).map_or(EventId(0), |e| e.id)
    }
}

impl State {
    pub(super) fn saw(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
    }

    /// Adds an instance without messages.
    pub(super) fn add_instance(&mut self, new: &NewInstance, owner: Option<Epoch>, time: Timestamp) {
        self.last_instance += 1;
        let instance = Instance::new(self.last_instance, new, owner, time);
        self.instances.insert(new.instance.clone(), instance);
    }

    /// Updates the queue entry of an instance.
    pub(super) fn reindex_instance(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let messages = || instance.messages.values().filter_map(|arrival| self.messages.get(arrival));
        let ready = match instance.status {
            _ if instance.owner.is_some() => None,
            InstanceStatus::Running => messages().map(QueuedMessage::ready).min(),
            InstanceStatus::Suspended => instance.pause_ends(),
            _ => None,
        };
        if let Some(before) = std::mem::replace(&mut instance.ready, ready) {
            self.ready.remove(before, id.clone());
        }
        if let Some(ready) = ready {
            self.ready.insert(ready, id.clone());
            self.signals.work = true;
        }
    }

    /// Changes an activity and updates its queue entry.
    pub(super) fn change_activity(&mut self, id: &ActivityId, change: impl FnOnce(&mut Activity)) {
        let Some(activity) = self.activities.get_mut(id) else { return };
        if let Some(queue) = self.queue.get_mut(&activity.name) {
            queue.remove(activity.ready, id.clone());
        }
        change(activity);
        if activity.owner.is_none() && !activity.parked {
            self.queue.entry(activity.name.clone()).or_default().insert(activity.ready, id.clone());
            self.signals.work = true;
        }
    }

    /// Removes an activity. A node that runs it gets a cancellation, unless it is the node of epoch `by`, which removes
    /// the activity itself.
    pub(super) fn remove_activity(&mut self, id: &ActivityId, by: Option<Epoch>) {
        let Some(activity) = self.activities.remove(id) else { return };
        if let Some(queue) = self.queue.get_mut(&activity.name) {
            queue.remove(activity.ready, id.clone());
        }
        let node = activity.owner.filter(|owner| Some(*owner) != by).and_then(|epoch| self.nodes.get_mut(&epoch));
        if let Some(node) = node {
            node.cancelled.insert(id.clone());
            self.signals.work = true;
        }
    }

    /// Returns the activities of an instance, or of one execution of it.
    pub(super) fn activities_of(&self, instance: &InstanceId, execution: Option<u64>) -> Vec<ActivityId> {
        let Some(row) = self.instances.get(instance) else { return Vec::new() };
        let at = |number, call| ActivityId { execution: row.numbered(instance, number), call };
        let from = at(execution.unwrap_or(0), CallId(0));
        let to = at(execution.unwrap_or(u64::MAX), CallId(u64::MAX));
        self.activities.range(from..=to).map(|(id, _)| id.clone()).collect()
    }

    /// Delivers a message, unless the instance has finished or the message is for another execution.
    pub(super) fn deliver(&mut self, to: &InstanceId, mut row: MessageRow, time: Timestamp, sent: bool) -> Placement {
        let begun = &self.begun;
        let Some(instance) = self.instances.get_mut(to) else { return Placement::Refused };
        let wrong = row.execution.is_some_and(|number| number != instance.execution);
        if instance.status.is_finished() || wrong {
            return Placement::Refused;
        }
        let identity = instance.identity();
        let placed = |number| move |epoch| Placement::Owned { epoch, identity, number };
        if let Some(arrival) = instance.messages.get(&row.id) {
            let number = self.messages.get(arrival).and_then(|message| message.row.number);
            return instance.owner.map_or(Placement::Queued, placed(number));
        }
        if row.visible_at.is_none() {
            let number = begun.number(to).unwrap_or(instance.arrivals + 1);
            instance.arrivals = instance.arrivals.max(number);
            row.number = Some(number);
        }
        let placement = instance.owner.map_or(Placement::Queued, placed(row.number));
        self.last_arrival += 1;
        instance.messages.insert(row.id, self.last_arrival);
        if let Some(number) = row.execution {
            instance.for_execution.entry(number).or_default().insert(row.id);
        }
        let (at, ready) = (row.visible_at.unwrap_or(time), Ready::by_message(row.visible_at, time));
        if row.lane == Lane::End {
            self.ends.insert((to.clone(), self.last_arrival));
            // Any node ends an instance without an owner.
            self.signals.work |= instance.owner.is_none();
        }
        self.messages.insert(self.last_arrival, QueuedMessage { to: to.clone(), row, at, stored_at: time, sent });
        // Keep a fan-in of n messages at a cost of n: update the queue only if the message makes the instance ready
        // earlier.
        let waits = instance.owner.is_none() && instance.status == InstanceStatus::Running;
        if waits && instance.ready.is_none_or(|before| ready < before) {
            self.reindex_instance(to);
        }
        placement
    }

    /// Leaves mail for the owner of an instance, unless the owner is the epoch that forwards the message itself.
    pub(super) fn leave_mail(&mut self, to: &InstanceId, placement: Placement, forwarded_by: Option<Epoch>) {
        let Placement::Owned { epoch, number: Some(number), .. } = placement else { return };
        if Some(epoch) != forwarded_by
            && let Some(node) = self.nodes.get_mut(&epoch)
        {
            let upto = node.mail.entry(to.clone()).or_default();
            *upto = number.max(*upto);
            self.signals.work = true;
        }
    }

    /// Removes a message. Records its id if a client sent it.
    pub(super) fn remove_message(&mut self, from: &InstanceId, id: &MessageId) {
        let Some(instance) = self.instances.get_mut(from) else { return };
        let Some(stored_at) = instance.messages.remove(id) else { return };
        let Some(stored) = self.messages.remove(&stored_at) else { return };
        self.ends.remove(&(from.clone(), stored_at));
        if let Some(number) = stored.row.execution
            && let Some(others) = instance.for_execution.get_mut(&number)
        {
            others.remove(id);
            if others.is_empty() {
                instance.for_execution.remove(&number);
            }
        }
        if stored.sent {
            self.record_done(id.0);
        }
    }

    /// Records that the request with this id was carried out.
    pub(super) fn record_done(&mut self, id: Uuid) {
        self.record_as(id, DedupEntry::Done);
    }

    pub(super) fn record_as(&mut self, id: Uuid, entry: DedupEntry) {
        let now = Instant::now();
        if let hash_map::Entry::Vacant(vacant) = self.done.entry(id) {
            vacant.insert(entry);
            self.done_at.push_back((now, id));
        }
        while let Some((_, id)) = self.done_at.front().filter(|(at, _)| now.duration_since(*at) > REPEAT_TIME) {
            self.done.remove(id);
            self.done_at.pop_front();
        }
    }

    pub(super) fn is_recorded(&self, id: Uuid) -> bool {
        self.done.contains_key(&id)
    }

    /// Returns the recorded result of a request, if there is one.
    pub(super) fn dedup_entry(&self, id: Uuid) -> Option<DedupEntry> {
        self.done.get(&id).copied()
    }

    /// Returns the messages of an instance in the order of delivery: all, or those with a number above `heard`.
    pub(super) fn messages_of(&self, instance: &Instance, heard: Option<u64>) -> Vec<MessageRow> {
        let stored = instance.messages.values().filter_map(|a| Some((*a, self.messages.get(a)?)));
        let wanted = |row: &MessageRow| heard.is_none_or(|heard| row.number.is_some_and(|number| number > heard));
        let stored = stored.filter(|(arrival, m)| wanted(&m.row) && self.beside.sees(*arrival));
        in_order(stored.map(|(arrival, m)| (m.key(arrival), m.row.clone())).collect())
    }

    /// Removes an instance and everything that belongs to it.
    pub(super) fn remove_instance(&mut self, id: &InstanceId) {
        for activity in self.activities_of(id, None) {
            self.remove_activity(&activity, None);
        }
        self.remove_messages(id);
        if let Some(instance) = self.instances.remove(id) {
            // Record the id of its start message, which may be sent again.
            self.record_done(instance.start.0);
            if let Some(ready) = instance.ready {
                self.ready.remove(ready, id.clone());
            }
        }
        for node in self.nodes.values_mut() {
            node.mail.remove(id);
        }
        self.signals.changed(id);
    }

    /// Removes all messages of an instance.
    pub(super) fn remove_messages(&mut self, from: &InstanceId) {
        let Some(instance) = self.instances.get(from) else { return };
        let ids: Vec<_> = instance.messages.keys().copied().collect();
        for id in ids {
            self.remove_message(from, &id);
        }
    }

    /// Removes the matching messages of an instance that are for one execution only.
    pub(super) fn remove_messages_for(&mut self, execution: &ExecutionId, fits: impl Fn(&MessageRow) -> bool) {
        let Some(instance) = self.instances.get(&execution.instance) else { return };
        let Some(ids) = instance.for_execution.get(&execution.number) else { return };
        let row = |id: &MessageId| Some(&self.messages.get(instance.messages.get(id)?)?.row);
        let fitting: Vec<_> = ids.iter().filter(|id| row(id).is_some_and(&fits)).copied().collect();
        for id in fitting {
            self.remove_message(&execution.instance, &id);
        }
    }
}

/// Returns true if one of the orchestrations has the name, and the version if one is pinned.
pub(super) fn has_code(orchestrations: &[(String, Version)], name: &str, version: Option<&Version>) -> bool {
    orchestrations.iter().any(|(n, v)| n == name && version.is_none_or(|pinned| pinned == v))
}

/// Returns true if a node with these tags serves the tag. Without tags, a node serves all of them.
pub(super) fn serves(tags: Option<&[String]>, tag: Option<&String>) -> bool {
    match (tags, tag) {
        (Some(tags), Some(tag)) => tags.contains(tag),
        _ => true,
    }
}
