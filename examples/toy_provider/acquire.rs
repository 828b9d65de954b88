//! Requests for work: the items that the lease owns already, then the claim of new ones.

use duroxide::Timestamp;
use duroxide::id::{ActivityId, Epoch, EventId, ExecutionId, InstanceId};
use duroxide::provider::*;

use crate::members::serves;
use crate::rows::{Activity, Rows, Tenancy};

impl Rows {
    pub(crate) fn acquire(&mut self, lease: &Lease, want: &Want) -> Acquired {
        self.take_over_dead();
        self.saw(want.now);
        let mut acquired = Acquired { claim: want.claim, ..Acquired::default() };
        if !self.nodes.contains_key(&lease.epoch) {
            return acquired;
        }
        self.acknowledge(lease.epoch, want);
        acquired.ending = self.ending();
        let Some(node) = self.nodes.get(&lease.epoch) else { return acquired };
        acquired.cancelled = node.cancelled.iter().cloned().collect();
        self.load(lease.epoch, want, &mut acquired);
        if node.claim != want.claim {
            self.repeat_claim(lease.epoch, node.claim, want, &mut acquired);
        } else if !(want.alone && self.claim_quarantined(lease.epoch, want, &mut acquired)) {
            self.claim_instances(lease.epoch, want, &mut acquired);
            self.claim_activities(lease.epoch, want, &mut acquired);
        }
        acquired
    }

    fn acknowledge(&mut self, epoch: Epoch, want: &Want) {
        let Some(node) = self.nodes.get_mut(&epoch) else { return };
        node.cancelled.retain(|activity| !want.cancelled.contains(activity));
        node.mail.retain(|id, upto| {
            // An instance that the node lost needs no mail: its next owner receives all messages.
            let owned = self.instances.get(id).filter(|instance| instance.tenancy.is_owned_by(epoch));
            owned.is_some_and(|instance| {
                let is_heard = |heard: &Heard| heard.instance == *id && heard.identity == instance.identity();
                !want.heard.iter().any(|heard| is_heard(heard) && heard.number >= *upto)
            })
        });
    }

    /// Returns the instances without an owner that are to be terminated, each with its oldest request.
    fn ending(&self) -> Vec<Ending> {
        let mut ending: Vec<Ending> = Vec::new();
        for stored in self.messages.iter().filter(|stored| stored.row.lane == Lane::End) {
            let instance = self.instances.get(&stored.to).filter(|instance| instance.tenancy.owner.is_none());
            let is_new = |ending: &Vec<Ending>| ending.iter().all(|other| other.execution.instance != stored.to);
            if let Some(instance) = instance.filter(|_| is_new(&ending)) {
                ending.push(Ending { execution: instance.execution.clone(), message: stored.row.clone() });
            }
        }
        ending
    }

    /// Adds the owned instances that the node requests by name, and those with mail.
    fn load(&self, epoch: Epoch, want: &Want, acquired: &mut Acquired) {
        let is_owned = |id: &InstanceId| self.instances.get(id).is_some_and(|i| i.tenancy.is_owned_by(epoch));
        for Load { instance, heard } in want.load.iter().filter(|load| is_owned(&load.instance)) {
            acquired.instances.extend(self.acquired(instance, *heard, heard.is_none()));
        }
        let mail = self.nodes.get(&epoch).into_iter().flat_map(|node| node.mail.keys());
        let is_requested = |id: &InstanceId| want.load.iter().any(|load| load.instance == *id);
        for id in mail.filter(|id| is_owned(id) && !is_requested(id)) {
            acquired.instances.extend(self.acquired(id, None, false));
        }
    }

    /// Returns the items of the last claim, whose answer was lost, and claims nothing.
    fn repeat_claim(&self, epoch: Epoch, claim: u64, want: &Want, acquired: &mut Acquired) {
        let is_claimed = |tenancy: &Tenancy| tenancy.is_owned_by(epoch) && tenancy.claim == claim;
        for (id, _) in self.instances.iter().filter(|(_, instance)| is_claimed(&instance.tenancy)) {
            // Each instance is returned once.
            acquired.instances.retain(|other| other.execution.instance != *id);
            acquired.instances.extend(self.acquired(id, None, true));
        }
        let activities = self.activities.iter().filter(|(_, activity)| is_claimed(&activity.tenancy));
        acquired.activities.extend(activities.filter_map(|(id, activity)| self.acquired_activity(id, activity)));
        (acquired.claim, acquired.next_due) = (claim, Some(want.now));
    }

    /// Returns the instances that the lease may claim, oldest first, each with the time since which it is ready.
    fn free_instances(&self, epoch: Epoch, want: &Want, is_quarantined: bool) -> Vec<(Timestamp, InstanceId)> {
        let may_claim = |id: &InstanceId| {
            self.instances.get(id).is_some_and(|instance| {
                instance.tenancy.is_quarantined() == is_quarantined
                    && self.may_run(epoch, &want.orchestrations, instance)
                    && (instance.paused.is_some() || !self.has_rejected(epoch, &instance.tenancy))
            })
        };
        let ids = self.instances.keys().filter(|id| may_claim(id));
        let ready = ids.filter_map(|id| Some((self.ready(id)?, id.clone())));
        let mut free: Vec<_> = ready.map(|(ready, id)| (ready.since(want.now), ready, id)).collect();
        free.sort();
        free.into_iter().map(|(since, _, id)| (since, id)).collect()
    }

    /// Returns the activities of a group that the lease may claim, oldest first, as for instances.
    fn free_activities(
        &self,
        epoch: Epoch,
        want: &Want,
        group: &ActivityGroup,
        is_quarantined: bool,
    ) -> Vec<(Timestamp, ActivityId)> {
        let may_claim = |activity: &Activity| {
            let Activity { new, tenancy, .. } = activity;
            tenancy.is_free()
                && tenancy.is_quarantined() == is_quarantined
                && group.names.contains(&new.name)
                && serves(want.tags.as_deref(), new.tag.as_ref())
                && !self.has_rejected(epoch, tenancy)
        };
        let fitting = self.activities.iter().filter(|(_, activity)| may_claim(activity));
        let mut free: Vec<_> = fitting
            .map(|(id, activity)| {
                let is_overdue = want.overdue.contains(id);
                let since = if is_overdue { want.now } else { activity.ready.since(want.now) };
                // The overdue ones come first.
                (!is_overdue, since, activity.ready, id.clone())
            })
            .collect();
        free.sort();
        free.into_iter().map(|(_, since, _, id)| (since, id)).collect()
    }

    /// Claims one due item that has crashed often, and nothing else. If there is none, returns false, and notes the time at which
    /// one becomes due.
    fn claim_quarantined(&mut self, epoch: Epoch, want: &Want, acquired: &mut Acquired) -> bool {
        let instances = if want.instances > 0 { self.free_instances(epoch, want, true) } else { Vec::new() };
        let instance = instances.into_iter().next();
        if let Some((_, id)) = instance.as_ref().filter(|(since, _)| *since <= want.now) {
            self.own_instance(epoch, id, true, want, acquired);
            return true;
        }
        let groups = want.activities.iter().filter(|group| group.limit > 0);
        let activity = groups.flat_map(|group| self.free_activities(epoch, want, group, true)).min();
        if let Some((_, id)) = activity.as_ref().filter(|(since, _)| *since <= want.now) {
            self.own_activity(epoch, id, true, want, acquired);
            return true;
        }
        let later = [instance.map(|(since, _)| since), activity.map(|(since, _)| since)];
        acquired.next_due = later.into_iter().flatten().min();
        false
    }

    fn claim_instances(&mut self, epoch: Epoch, want: &Want, acquired: &mut Acquired) {
        if want.instances == 0 {
            return;
        }
        for (count, (since, id)) in self.free_instances(epoch, want, false).into_iter().enumerate() {
            if since > want.now || count == want.instances {
                acquired.next_due = acquired.next_due.into_iter().chain([since]).min();
                return;
            }
            self.own_instance(epoch, &id, false, want, acquired);
        }
    }

    fn claim_activities(&mut self, epoch: Epoch, want: &Want, acquired: &mut Acquired) {
        for group in want.activities.iter().filter(|group| group.limit > 0) {
            for (count, (since, id)) in self.free_activities(epoch, want, group, false).into_iter().enumerate() {
                if since > want.now || count == group.limit {
                    acquired.next_due = acquired.next_due.into_iter().chain([since]).min();
                    break;
                }
                self.own_activity(epoch, &id, false, want, acquired);
            }
        }
    }

    fn own_instance(&mut self, epoch: Epoch, id: &InstanceId, alone: bool, want: &Want, acquired: &mut Acquired) {
        let claim = self.count_claim(epoch, want, acquired);
        self.end_pause(id);
        if let Some(instance) = self.instances.get_mut(id) {
            own(&mut instance.tenancy, epoch, claim, alone);
        }
        acquired.instances.extend(self.acquired(id, None, true));
    }

    fn own_activity(&mut self, epoch: Epoch, id: &ActivityId, alone: bool, want: &Want, acquired: &mut Acquired) {
        let claim = self.count_claim(epoch, want, acquired);
        if let Some(activity) = self.activities.get_mut(id) {
            own(&mut activity.tenancy, epoch, claim, alone);
        }
        let activity = self.activities.get(id);
        acquired.activities.extend(activity.and_then(|activity| self.acquired_activity(id, activity)));
    }

    /// Numbers the claim of this answer: all of its items have one number.
    fn count_claim(&mut self, epoch: Epoch, want: &Want, acquired: &mut Acquired) -> u64 {
        acquired.claim = want.claim + 1;
        if let Some(node) = self.nodes.get_mut(&epoch) {
            node.claim = acquired.claim;
        }
        acquired.claim
    }

    fn acquired(&self, id: &InstanceId, heard: Option<u64>, with_history: bool) -> Option<AcquiredInstance> {
        let instance = self.instances.get(id)?;
        let unread = HistoryPage { events: Vec::new(), more: true };
        Some(AcquiredInstance {
            execution: instance.execution.clone(),
            name: instance.name.clone(),
            version: instance.version.clone(),
            last_event: self.last_event(&instance.execution),
            arrivals: instance.arrivals,
            messages: self.messages_of(id, heard),
            history: if with_history { self.history(&instance.execution, EventId(0)) } else { unread },
            claim: instance.tenancy.claim,
            crashes: instance.tenancy.crashes,
            suspect: instance.tenancy.suspect,
        })
    }

    fn acquired_activity(&self, id: &ActivityId, activity: &Activity) -> Option<AcquiredActivity> {
        let Activity { new, attempt, tenancy, .. } = activity;
        let scheduled = self.events.get(&id.execution)?.iter().find(|event| event.id == new.scheduled)?;
        Some(AcquiredActivity {
            id: id.clone(),
            attempt: *attempt,
            claim: tenancy.claim,
            crashes: tenancy.crashes,
            suspect: tenancy.suspect,
            scheduled: scheduled.clone(),
            headers: new.headers.clone(),
        })
    }

    /// Returns a page of a history. Another identity has no events.
    pub(crate) fn history(&self, execution: &ExecutionId, after: EventId) -> HistoryPage {
        const PAGE: usize = 100;
        let events = self.events.get(execution).map_or(&[][..], Vec::as_slice);
        let rest = &events[events.partition_point(|event| event.id <= after)..];
        HistoryPage { events: rest.iter().take(PAGE).cloned().collect(), more: rest.len() > PAGE }
    }
}

fn own(tenancy: &mut Tenancy, epoch: Epoch, claim: u64, alone: bool) {
    (tenancy.owner, tenancy.claim, tenancy.alone) = (Some(epoch), claim, alone);
}
