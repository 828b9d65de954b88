//! Requests for work: the owned items of an answer, and the claims.

use std::collections::{BTreeMap, HashMap};

use super::state::{Activity, CrashRecord, Instance, Node, State, serves};
use super::*;
use crate::id::ActivityId;

impl State {
    pub(super) fn acquire(&mut self, lease: &Lease, want: &Want) -> Acquired {
        self.take_over_dead();
        self.saw(want.now);
        let mut acquired = Acquired { claim: want.claim, ..Acquired::default() };
        let Some(node) = self.nodes.get_mut(&lease.epoch) else { return acquired };
        let current = |heard: &&Heard| {
            let instance = self.instances.get(&heard.instance);
            instance.is_some_and(|instance| instance.identity() == heard.identity)
        };
        node.acknowledge(want, want.heard.iter().filter(current));
        // Drop the mail of instances that the node lost: a later claim of such an instance returns all its messages.
        node.mail.retain(|id, _| self.instances.get(id).is_some_and(|instance| instance.owner == Some(lease.epoch)));
        acquired.cancelled = node.cancelled.iter().cloned().collect();
        acquired.ending = self.ending();
        self.load(lease, want, &mut acquired);
        if self.repeat_claim(lease, want, &mut acquired) {
            return acquired;
        }
        if !(want.alone && self.has_crashed && self.take_quarantined(lease, want, &mut acquired)) {
            self.take_instances(lease, want, &mut acquired);
            self.take_activities(lease, want, &mut acquired);
        }
        acquired
    }

    /// Returns the instances that are to be terminated and have no owner.
    fn ending(&self) -> Vec<Ending> {
        let mut ending: Vec<Ending> = Vec::new();
        for (id, arrival) in self.ends.iter().filter(|(_, arrival)| self.beside.sees(*arrival)) {
            let instance = self.instances.get(id).filter(|instance| instance.owner.is_none());
            let Some((instance, message)) = instance.zip(self.messages.get(arrival)) else { continue };
            if ending.last().is_none_or(|last| last.execution.instance != *id) {
                ending.push(Ending { execution: instance.current(id), message: message.row.clone() });
            }
        }
        ending
    }

    /// Adds the owned instances that the node requests, and those with mail.
    fn load(&self, lease: &Lease, want: &Want, acquired: &mut Acquired) {
        let owned = |id: &InstanceId| self.instances.get(id).filter(|instance| instance.owner == Some(lease.epoch));
        for Load { instance: id, heard } in &want.load {
            if let Some(instance) = owned(id) {
                acquired.instances.push(self.acquired(id, instance, *heard, heard.is_none()));
            }
        }
        let mail = self.nodes.get(&lease.epoch).map(|node| &node.mail);
        for id in mail.into_iter().flat_map(BTreeMap::keys) {
            let asked = want.load.iter().any(|load| load.instance == *id);
            if let Some(instance) = owned(id).filter(|_| !asked) {
                acquired.instances.push(self.acquired(id, instance, None, false));
            }
        }
    }

    /// Returns a claim whose answer was lost once more. Returns false if there is none: new items may be claimed.
    fn repeat_claim(&self, lease: &Lease, want: &Want, acquired: &mut Acquired) -> bool {
        let Some(node) = self.nodes.get(&lease.epoch).filter(|node| node.claim != want.claim) else { return false };
        let claimed = |owner: Option<Epoch>, claim| owner == Some(lease.epoch) && claim == node.claim;
        for (id, instance) in &self.instances {
            if claimed(instance.owner, instance.claim) {
                // Each instance is returned once: replace the part of it that the node requested or that has mail.
                acquired.instances.retain(|other| other.execution.instance != *id);
                acquired.instances.push(self.acquired(id, instance, None, true));
            }
        }
        let activities = self.activities.iter().filter(|(_, activity)| claimed(activity.owner, activity.claim));
        acquired.activities.extend(activities.filter_map(|(id, _)| self.acquired_activity(id)));
        acquired.claim = node.claim;
        // The node sends its next request at once, which claims new items.
        acquired.next_due = Some(want.now);
        true
    }

    /// Takes the oldest due item that has crashed too often. If there is none, notes the time at which one becomes due.
    fn take_quarantined(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) -> bool {
        let free = self.ready.oldest(want.now).filter(|(_, id)| !self.beside.locked.contains(id));
        let mut fitting = free.filter(|(_, id)| self.instances.get(id).is_some_and(|i| self.may_claim(lease, want, i)));
        let instance = fitting.find(|(_, id)| self.instances.get(id).is_some_and(|i| i.crashes.quarantined()));
        let instance = instance.filter(|_| want.instances > 0).map(|(at, id)| (at, id.clone()));
        drop(fitting);
        if let Some((_, id)) = instance.as_ref().filter(|(at, _)| *at <= want.now) {
            self.own_instance(id, lease, want, true, acquired);
            return true;
        }
        let groups = groups(want);
        let free = self.queue.values().flat_map(|queue| queue.oldest(want.now));
        let free = free.filter(|(_, id)| !self.beside.locked.contains(&id.execution.instance));
        let with_rows = free.filter_map(|(at, id)| Some((at, id, self.activities.get(id)?)));
        let quarantined = with_rows.filter(|(_, _, a)| {
            let group = group(&groups, want, a);
            let fits = a.crashes.quarantined() && self.may_claim_activity(lease, a);
            fits && group.is_some_and(|g| want.activities.get(g).is_some_and(|g| g.limit > 0))
        });
        let activity = quarantined.map(|(at, id, _)| (at, id)).min().map(|(at, id)| (at, id.clone()));
        if let Some((_, id)) = activity.as_ref().filter(|(at, _)| *at <= want.now) {
            self.own_activity(id, lease, want, true, acquired);
            return true;
        }
        let later = [instance.map(|(at, _)| at), activity.map(|(at, _)| at)];
        acquired.next_due = later.into_iter().flatten().min();
        false
    }

    fn take_instances(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) {
        if want.instances == 0 {
            return;
        }
        let mut taken = Vec::new();
        for (at, id) in self.ready.oldest(want.now) {
            let Some(instance) = self.instances.get(id) else { continue };
            if !self.may_claim(lease, want, instance)
                || instance.crashes.quarantined()
                || self.beside.locked.contains(id)
            {
                continue;
            }
            if at > want.now || taken.len() == want.instances {
                acquired.next_due = acquired.next_due.into_iter().chain([at]).min();
                break;
            }
            taken.push(id.clone());
        }
        for id in taken {
            self.own_instance(&id, lease, want, false, acquired);
        }
    }

    fn take_activities(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) {
        for group in want.activities.iter().filter(|group| group.limit > 0) {
            let (due, next) = self.oldest_of(group, lease, want);
            for id in due {
                self.own_activity(&id, lease, want, false, acquired);
            }
            acquired.next_due = acquired.next_due.into_iter().chain(next).min();
        }
    }

    /// Returns the activities of a group that are due, oldest first, up to its limit; and when the next one is due.
    fn oldest_of(&self, group: &ActivityGroup, lease: &Lease, want: &Want) -> (Vec<ActivityId>, Option<Timestamp>) {
        let fits = |id: &ActivityId| {
            let activity = self.activities.get(id).filter(|activity| !activity.crashes.quarantined());
            let activity = activity.filter(|activity| self.may_claim_activity(lease, activity));
            let activity = activity.filter(|_| !self.beside.locked.contains(&id.execution.instance));
            activity.is_some_and(|activity| serves(want.tags.as_deref(), activity.tag.as_ref()))
        };
        let is_overdue = |id: &ActivityId| want.overdue.contains(id);
        let is_requested = |id: &ActivityId| {
            let activity = self.activities.get(id).filter(|activity| activity.owner.is_none() && !activity.parked);
            activity.is_some_and(|activity| group.names.contains(&activity.name))
        };
        let overdue = want.overdue.iter().filter(|id| is_requested(id) && fits(id)).map(|id| (Timestamp::MIN, id));
        let queues = group.names.iter().filter_map(|name| self.queue.get(name));
        let oldest = queues.flat_map(|queue| {
            let free = queue.oldest(want.now).filter(|(_, id)| fits(id) && !is_overdue(id));
            free.take(group.limit.saturating_add(1))
        });
        let mut waiting: Vec<_> = overdue.chain(oldest).collect();
        waiting.sort_unstable();
        let due = waiting.iter().take(group.limit).take_while(|(at, _)| *at <= want.now).count();
        let next = waiting.get(due).map(|(at, _)| *at);
        (waiting.into_iter().take(due).map(|(_, id)| id.clone()).collect(), next)
    }

    fn own_instance(&mut self, id: &InstanceId, lease: &Lease, want: &Want, alone: bool, acquired: &mut Acquired) {
        let claim = self.count_claim(lease, want, acquired);
        self.end_pause(id);
        if let Some(instance) = self.instances.get_mut(id) {
            (instance.owner, instance.claim) = (Some(lease.epoch), claim);
            instance.crashes.alone = alone;
        }
        self.reindex_instance(id);
        acquired.instances.extend(self.instances.get(id).map(|instance| self.acquired(id, instance, None, true)));
    }

    /// Numbers the claim of this answer. All items of one answer have the same number.
    fn count_claim(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) -> u64 {
        acquired.claim = want.claim + 1;
        if let Some(node) = self.nodes.get_mut(&lease.epoch) {
            node.claim = acquired.claim;
        }
        acquired.claim
    }

    fn acquired(&self, id: &InstanceId, instance: &Instance, heard: Option<u64>, history: bool) -> AcquiredInstance {
        let execution = instance.current(id);
        let unread = HistoryPage { events: Vec::new(), more: true };
        AcquiredInstance {
            history: if history { self.history(&execution, EventId(0)) } else { unread },
            execution,
            name: instance.name.clone(),
            version: instance.version.clone(),
            last_event: instance.last_event(),
            arrivals: instance.arrivals,
            messages: self.messages_of(instance, heard),
            claim: instance.claim,
            crashes: instance.crashes.crashes,
            suspect: instance.crashes.suspect,
        }
    }

    fn own_activity(&mut self, id: &ActivityId, lease: &Lease, want: &Want, alone: bool, acquired: &mut Acquired) {
        let claim = self.count_claim(lease, want, acquired);
        self.change_activity(id, |activity| {
            (activity.owner, activity.claim) = (Some(lease.epoch), claim);
            activity.crashes.alone = alone;
        });
        acquired.activities.extend(self.acquired_activity(id));
    }

    fn acquired_activity(&self, id: &ActivityId) -> Option<AcquiredActivity> {
        let activity = self.activities.get(id)?;
        let CrashRecord { crashes, suspect, .. } = activity.crashes;
        let execution = self.instances.get(&id.execution.instance);
        let execution = execution.and_then(|instance| instance.executions.get(&id.execution.number));
        let scheduled = execution.and_then(|e| {
            let found = e.events.binary_search_by_key(&activity.scheduled, |event| event.id).ok()?;
            e.events.get(found)
        });
        scheduled.map(|scheduled| AcquiredActivity {
            id: id.clone(),
            attempt: activity.attempt,
            claim: activity.claim,
            crashes,
            suspect,
            scheduled: scheduled.clone(),
            headers: activity.headers.clone(),
        })
    }
}

impl Node {
    /// Removes the mail and the cancellations that the node has received.
    fn acknowledge<'h>(&mut self, want: &Want, heard: impl Iterator<Item = &'h Heard>) {
        for Heard { instance, number, .. } in heard {
            if self.mail.get(instance).is_some_and(|upto| upto <= number) {
                self.mail.remove(instance);
            }
        }
        for activity in &want.cancelled {
            self.cancelled.remove(activity);
        }
    }
}

/// Returns the groups by the name of their activities.
fn groups(want: &Want) -> HashMap<&str, usize> {
    let groups = want.activities.iter().enumerate();
    groups.flat_map(|(n, group)| group.names.iter().map(move |name| (name.as_str(), n))).collect()
}

fn group(groups: &HashMap<&str, usize>, want: &Want, activity: &Activity) -> Option<usize> {
    let served = serves(want.tags.as_deref(), activity.tag.as_ref());
    groups.get(activity.name.as_str()).copied().filter(|_| served)
}
