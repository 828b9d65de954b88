//! The rows, and what several operations do with them. All rows are found by looking at each: a database has indexes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use duroxide::Timestamp;
use duroxide::history::{Parent, TextMap};
use duroxide::id::{ActivityId, CommitId, Epoch, EventId, ExecutionId, Identity, InstanceId, MessageId, NodeId};
use duroxide::provider::*;
use semver::Version;
use uuid::Uuid;

#[derive(Clone, Default)]
pub(crate) struct Rows {
    pub(crate) nodes: BTreeMap<Epoch, Node>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) activities: BTreeMap<ActivityId, Activity>,
    pub(crate) events: BTreeMap<ExecutionId, Vec<EventRow>>,
    pub(crate) messages: Vec<Stored>,
    /// The requests whose rows are gone, with their result. A provider that lives longer removes them after `REPEAT_TIME`.
    pub(crate) done: HashMap<Uuid, Done>,
    pub(crate) last_epoch: u64,
    pub(crate) last_arrival: i64,
    /// The latest time that a call has named.
    pub(crate) latest: Timestamp,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) info: NodeInfo,
    pub(crate) dead: bool,
    /// The number of its last claim.
    pub(crate) claim: u64,
    /// Its last report.
    pub(crate) report: NodeReport,
    pub(crate) mail: BTreeMap<InstanceId, u64>,
    pub(crate) cancelled: BTreeSet<ActivityId>,
}

#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) version: Option<Version>,
    pub(crate) labels: TextMap,
    pub(crate) parent: Option<Parent>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) finished: Option<(InstanceStatus, Timestamp)>,
    pub(crate) execution: ExecutionId,
    pub(crate) start: MessageId,
    pub(crate) last_commit: Option<CommitId>,
    /// The last number of a message.
    pub(crate) arrivals: u64,
    /// The reason and the end of its pause, while a client has suspended it.
    pub(crate) paused: Option<(String, Option<Timestamp>)>,
    pub(crate) tenancy: Tenancy,
}

#[derive(Clone)]
pub(crate) struct Activity {
    pub(crate) new: NewActivity,
    pub(crate) attempt: u32,
    pub(crate) ready: Ready,
    pub(crate) tenancy: Tenancy,
}

/// The columns that instances and activities share: the owner, the crashes of owners, and the builds that have rejected the
/// item.
#[derive(Clone, Default)]
pub(crate) struct Tenancy {
    pub(crate) owner: Option<Epoch>,
    pub(crate) claim: u64,
    pub(crate) crashes: u32,
    pub(crate) alone: bool,
    pub(crate) suspect: bool,
    pub(crate) lost_by: Option<NodeId>,
    /// The reason of the last rejection.
    pub(crate) rejected: Option<String>,
    pub(crate) rejected_by: BTreeSet<String>,
    /// True if no member can try it: an instance is suspended, an activity is parked.
    pub(crate) set_aside: bool,
}

#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) to: InstanceId,
    pub(crate) row: MessageRow,
    pub(crate) arrival: i64,
    pub(crate) at: Timestamp,
    /// True if a client has sent it: then its id is remembered when it is removed.
    pub(crate) sent: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Done {
    CarriedOut,
    Refused(Option<InstanceStatus>),
}

impl Tenancy {
    pub(crate) fn is_owned_by(&self, epoch: Epoch) -> bool {
        self.owner == Some(epoch)
    }

    pub(crate) fn is_free(&self) -> bool {
        self.owner.is_none() && !self.set_aside
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.crashes >= QUARANTINE && !self.suspect
    }

    pub(crate) fn made_progress(&mut self) {
        (self.crashes, self.alone, self.suspect, self.lost_by) = (0, false, false, None);
    }

    pub(crate) fn crashed(&mut self, node: NodeId) {
        self.crashes += 1;
        self.suspect |= self.alone && self.crashes >= CRASH_LIMIT;
        self.lost_by = Some(node);
    }

    /// Reverts the last crash if it was counted to this node, which is alive.
    pub(crate) fn take_back(&mut self, node: NodeId) {
        if self.owner.is_none() && self.lost_by.take_if(|by| *by == node).is_some() {
            self.crashes -= 1;
            self.suspect &= self.crashes >= CRASH_LIMIT;
        }
    }

    pub(crate) fn reject(&mut self, reason: String, build: Option<String>) {
        self.made_progress();
        (self.owner, self.rejected, self.set_aside) = (None, Some(reason), true);
        self.rejected_by.extend(build);
    }

    pub(crate) fn forget_rejections(&mut self) {
        (self.rejected, self.set_aside) = (None, false);
        self.rejected_by.clear();
    }
}

impl Instance {
    pub(crate) fn identity(&self) -> Identity {
        self.start.into()
    }

    /// Returns its status, regardless of its activities.
    pub(crate) fn status(&self) -> InstanceStatus {
        let live = if self.tenancy.set_aside || self.paused.is_some() {
            InstanceStatus::Suspended
        } else {
            InstanceStatus::Running
        };
        self.finished.map_or(live, |(status, _)| status)
    }
}

impl Rows {
    pub(crate) fn saw(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
    }

    pub(crate) fn last_event(&self, execution: &ExecutionId) -> EventId {
        self.events.get(execution).and_then(|events| events.last()).map_or(EventId(0), |event| event.id)
    }

    /// Returns the time from which an instance may be claimed: that of its first message, or the end of its pause. `None`: it
    /// has an owner, does not run, or has no message.
    pub(crate) fn ready(&self, id: &InstanceId) -> Option<Ready> {
        let instance = self.instances.get(id)?;
        if let Some((_, until)) = &instance.paused {
            return until.filter(|_| instance.finished.is_none()).map(Ready::At);
        }
        let waits = instance.tenancy.is_free() && instance.finished.is_none();
        let messages = self.messages.iter().filter(|stored| waits && stored.to == *id);
        messages.map(|stored| Ready::by_message(stored.row.visible_at, stored.at)).min()
    }

    /// Ends the pause of an instance, if there is one. Every build may try it.
    pub(crate) fn end_pause(&mut self, id: &InstanceId) -> bool {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.paused.is_some()) else {
            return false;
        };
        instance.paused = None;
        instance.tenancy.forget_rejections();
        instance.tenancy.made_progress();
        instance.updated_at = self.latest;
        true
    }

    /// Creates an instance without messages.
    pub(crate) fn insert(&mut self, new: &NewInstance, owner: Option<Epoch>, time: Timestamp) {
        let instance = Instance {
            name: new.name.clone(),
            version: new.version.clone(),
            labels: new.labels.clone(),
            parent: new.parent.clone(),
            created_at: time,
            updated_at: time,
            finished: None,
            execution: new.first_execution(),
            start: new.start.id,
            last_commit: None,
            arrivals: 0,
            paused: None,
            tenancy: Tenancy { owner, ..Tenancy::default() },
        };
        self.instances.insert(new.instance.clone(), instance);
    }

    /// Creates an instance with its start message. If it is eager, the epoch owns it, provided that the epoch is a member and
    /// no other member must have it.
    pub(crate) fn create(&mut self, new: NewInstance, by: Option<Epoch>, time: Timestamp) -> Placement {
        let may_own = |epoch: &Epoch| {
            let is_left = new.version.is_none() && self.is_outdated(*epoch, &new.name);
            new.eager && self.nodes.contains_key(epoch) && !is_left
        };
        self.insert(&new, by.filter(may_own), time);
        self.deliver(&new.instance, new.start, time, false)
    }

    /// Stores a message and numbers it, unless the instance has finished or the message is for another execution.
    pub(crate) fn deliver(&mut self, to: &InstanceId, mut row: MessageRow, time: Timestamp, sent: bool) -> Placement {
        let Some(instance) = self.instances.get_mut(to) else { return Placement::Refused };
        if instance.finished.is_some() || row.execution.is_some_and(|number| number != instance.execution.number) {
            return Placement::Refused;
        }
        let (owner, identity) = (instance.tenancy.owner, instance.identity());
        let placed = |number| owner.map_or(Placement::Queued, |epoch| Placement::Owned { epoch, identity, number });
        if let Some(before) = self.messages.iter().find(|stored| stored.to == *to && stored.row.id == row.id) {
            return placed(before.row.number);
        }
        if row.visible_at.is_none() {
            instance.arrivals += 1;
            row.number = Some(instance.arrivals);
        }
        self.last_arrival += 1;
        let (number, at) = (row.number, row.visible_at.unwrap_or(time));
        self.messages.push(Stored { to: to.clone(), row, arrival: self.last_arrival, at, sent });
        placed(number)
    }

    /// Leaves mail for the owner of an instance, unless it is the epoch that forwards the message itself.
    pub(crate) fn leave_mail(&mut self, to: &InstanceId, placement: Placement, forwarded_by: Option<Epoch>) {
        let Placement::Owned { epoch, number: Some(number), .. } = placement else { return };
        if let Some(node) = self.nodes.get_mut(&epoch).filter(|_| Some(epoch) != forwarded_by) {
            let upto = node.mail.entry(to.clone()).or_default();
            *upto = number.max(*upto);
        }
    }

    /// Returns the messages of an instance in the order of delivery: all, or those with a number above `heard`.
    pub(crate) fn messages_of(&self, id: &InstanceId, heard: Option<u64>) -> Vec<MessageRow> {
        let wanted = |row: &MessageRow| heard.is_none_or(|heard| row.number.is_some_and(|number| number > heard));
        let stored = self.messages.iter().filter(|stored| stored.to == *id && wanted(&stored.row));
        let keyed = stored.map(|stored| {
            let Stored { to, row, arrival, at, .. } = stored;
            let delayed = row.visible_at.is_some();
            (DeliveryKey { instance: to, lane: row.lane, arrival: *arrival, delayed, at: *at }, row.clone())
        });
        in_order(keyed.collect())
    }

    /// Removes messages of an instance, and remembers those that a client has sent.
    pub(crate) fn remove_messages(&mut self, of: &InstanceId, which: impl Fn(&MessageRow) -> bool) {
        let is_removed = |stored: &mut Stored| stored.to == *of && which(&stored.row);
        for stored in self.messages.extract_if(.., is_removed).filter(|stored| stored.sent) {
            self.done.insert(stored.row.id.0, Done::CarriedOut);
        }
    }

    /// Removes an activity. A node that runs it receives a cancellation, unless it removes the activity itself.
    pub(crate) fn remove_activity(&mut self, id: &ActivityId, by: Option<Epoch>) {
        let owner = self.activities.remove(id).and_then(|activity| activity.tenancy.owner);
        let others = owner.filter(|owner| Some(*owner) != by);
        if let Some(node) = others.and_then(|epoch| self.nodes.get_mut(&epoch)) {
            node.cancelled.insert(id.clone());
        }
    }

    /// Removes the activities of an ended execution, except detached ones.
    pub(crate) fn sweep(&mut self, execution: &ExecutionId, by: Option<Epoch>) {
        let ended = |(id, activity): &(&ActivityId, &Activity)| id.execution == *execution && !activity.new.detached;
        let ended: Vec<_> = self.activities.iter().filter(ended).map(|(id, _)| id.clone()).collect();
        ended.iter().for_each(|id| self.remove_activity(id, by));
    }

    /// Removes an instance with all its rows. The id of its start message is remembered.
    pub(crate) fn remove_instance(&mut self, id: &InstanceId) {
        let of = |activity: &&ActivityId| activity.execution.instance == *id;
        let activities: Vec<_> = self.activities.keys().filter(of).cloned().collect();
        activities.iter().for_each(|activity| self.remove_activity(activity, None));
        self.remove_messages(id, |_| true);
        self.events.retain(|execution, _| execution.instance != *id);
        for node in self.nodes.values_mut() {
            node.mail.remove(id);
        }
        if let Some(instance) = self.instances.remove(id) {
            self.done.insert(instance.start.0, Done::CarriedOut);
        }
    }
}
