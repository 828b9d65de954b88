//! Handing out work.

use std::collections::HashMap;

use super::state::{Activity, Blame, Handed, Instance, State, has_code, serves};
use super::*;
use crate::id::ActivityId;

impl State {
    pub(super) fn acquire(&mut self, lease: &Lease, want: &Want) -> Acquired {
        self.take_over_dead();
        let messages = self.new_messages(lease, want);
        self.claim(lease, want, messages)
    }

    /// Returns the messages of owned instances that came since the last time, and nothing else.
    pub(super) fn new_messages(&self, lease: &Lease, want: &Want) -> Acquired {
        let mut acquired = Acquired { cursor: want.cursor, ..Acquired::default() };
        if self.nodes.contains_key(&lease.epoch) {
            self.hand_on(lease, want, &mut acquired);
        }
        acquired
    }

    /// Adds the other parts of the answer to its messages.
    pub(super) fn claim(&mut self, lease: &Lease, want: &Want, mut acquired: Acquired) -> Acquired {
        self.saw(want.now);
        if !self.nodes.contains_key(&lease.epoch) {
            return acquired;
        }
        self.load(lease, want, &mut acquired);
        if self.hand_out_again(lease, want, &mut acquired) {
            return acquired;
        }
        if !(want.alone && self.has_crashed && self.take_quarantined(lease, want, &mut acquired)) {
            self.take_instances(lease, want, &mut acquired);
            self.take_activities(lease, want, &mut acquired);
        }
        acquired.next_due = acquired.next_due.into_iter().chain(self.next_timer(lease, want.now)).min();
        acquired
    }

    /// Answers a question whose answer was lost, or that comes late. Else remembers under its name what follows.
    fn hand_out_again(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) -> bool {
        let Some(node) = self.nodes.get_mut(&lease.epoch) else { return false };
        if want.question.is_some_and(|question| Some(question) < node.handed.question) {
            return true;
        }
        let handed = std::mem::replace(&mut node.handed, Handed { question: want.question, ..Handed::default() });
        if want.question.is_none() || handed.question != want.question {
            return false;
        }
        for id in handed.instances.iter().filter(|id| self.owner(id) == Some(lease.epoch)) {
            acquired.instances.extend(self.instances.get(id).map(|instance| self.acquired(id, instance, want.now)));
        }
        let mine = |id: &&ActivityId| self.activities.get(id).is_some_and(|a| a.owner == Some(lease.epoch));
        let activities = handed.activities.iter().filter(mine);
        acquired.activities.extend(activities.filter_map(|id| self.acquired_activity(id)));
        if let Some(node) = self.nodes.get_mut(&lease.epoch) {
            node.handed = handed;
        }
        // What else there is comes with the next question.
        acquired.next_due = Some(want.now);
        true
    }

    /// The messages of owned instances that came since the last time.
    fn hand_on(&self, lease: &Lease, want: &Want, acquired: &mut Acquired) {
        let Cursor { arrival, time } = want.cursor;
        let arrived = self.messages.range(arrival.saturating_add(1)..).map(|(arrival, _)| *arrival);
        let became_visible =
            self.delayed.iter().skip_while(|(due, _)| *due <= time).take_while(|(due, _)| *due <= want.now);
        let mut new: Vec<_> = arrived.chain(became_visible.map(|(_, arrival)| *arrival)).collect();
        new.sort_unstable();
        new.dedup();
        let due = new.iter().filter_map(|arrival| Some((*arrival, self.messages.get(arrival)?)));
        let due = due.filter(|(_, m)| m.row.visible_at.is_none_or(|due| due <= want.now));
        let mine = due.filter(|(_, m)| self.owner(&m.to) == Some(lease.epoch));
        let mine = mine.map(|(arrival, m)| (m.place(arrival), (m.to.clone(), m.row.clone())));
        acquired.messages = in_order(mine.collect());
        acquired.cursor = Cursor { arrival: self.last_arrival.max(arrival), time: want.now };
    }

    fn owner(&self, instance: &InstanceId) -> Option<Epoch> {
        self.instances.get(instance).and_then(|instance| instance.owner)
    }

    fn load(&self, lease: &Lease, want: &Want, acquired: &mut Acquired) {
        for id in want.load.iter().filter(|id| self.owner(id) == Some(lease.epoch)) {
            if let Some(instance) = self.instances.get(id) {
                acquired.instances.push(self.acquired(id, instance, want.now));
            }
        }
    }

    /// Takes the oldest item that has crashed too often, if there is one.
    fn take_quarantined(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) -> bool {
        let due = self.ready.oldest(want.now).take_while(|(at, _)| *at <= want.now);
        let due = due.filter(|(_, id)| !self.beside.locked.contains(id));
        let mut fitting = due.filter(|(_, id)| self.instances.get(id).is_some_and(|i| fits(want, i)));
        let instance = fitting.find(|(_, id)| self.instances.get(id).is_some_and(|i| i.blame.quarantined()));
        let instance = instance.filter(|_| want.instances > 0).map(|(_, id)| id.clone());
        drop(fitting);
        if let Some(id) = instance {
            self.own_instance(&id, lease, true, want.now, acquired);
            return true;
        }
        let groups = groups(want);
        let due = self.queue.values().flat_map(|queue| queue.oldest(want.now)).filter(|(at, _)| *at <= want.now);
        let due = due.filter(|(_, id)| !self.beside.locked.contains(&id.execution.instance));
        let mut quarantined = due.filter_map(|(_, id)| Some((id, self.activities.get(id)?)));
        let found = quarantined.find(|(_, a)| {
            let group = group(&groups, want, a);
            a.blame.quarantined() && group.is_some_and(|g| want.activities.get(g).is_some_and(|g| g.limit > 0))
        });
        let id = found.map(|(id, _)| id.clone());
        drop(quarantined);
        let Some(id) = id else { return false };
        self.own_activity(&id, lease, true, acquired);
        true
    }

    fn take_instances(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) {
        if want.instances == 0 {
            return;
        }
        let mut taken = Vec::new();
        for (at, id) in self.ready.oldest(want.now) {
            let Some(instance) = self.instances.get(id) else { continue };
            if !fits(want, instance) || instance.blame.quarantined() || self.beside.locked.contains(id) {
                continue;
            }
            if at > want.now || taken.len() == want.instances {
                acquired.next_due = Some(at);
                break;
            }
            taken.push(id.clone());
        }
        for id in taken {
            self.own_instance(&id, lease, false, want.now, acquired);
        }
    }

    fn take_activities(&mut self, lease: &Lease, want: &Want, acquired: &mut Acquired) {
        for group in want.activities.iter().filter(|group| group.limit > 0) {
            let (due, next) = self.oldest_of(group, want);
            for id in due {
                self.own_activity(&id, lease, false, acquired);
            }
            acquired.next_due = acquired.next_due.into_iter().chain(next).min();
        }
    }

    /// The activities of a group that are due, oldest first, as many as there is place for; and when the next one is due.
    fn oldest_of(&self, group: &ActivityGroup, want: &Want) -> (Vec<ActivityId>, Option<Timestamp>) {
        let fits = |id: &ActivityId| {
            let activity = self.activities.get(id).filter(|activity| !activity.blame.quarantined());
            let activity = activity.filter(|_| !self.beside.locked.contains(&id.execution.instance));
            activity.is_some_and(|activity| serves(want.tags.as_deref(), activity.tag.as_ref()))
        };
        let queues = group.names.iter().filter_map(|name| self.queue.get(name));
        let oldest = queues
            .flat_map(|queue| queue.oldest(want.now).filter(|(_, id)| fits(id)).take(group.limit.saturating_add(1)));
        let mut waiting: Vec<_> = oldest.collect();
        waiting.sort_unstable();
        let due = waiting.iter().take(group.limit).take_while(|(at, _)| *at <= want.now).count();
        let next = waiting.get(due).map(|(at, _)| *at);
        (waiting.into_iter().take(due).map(|(_, id)| id.clone()).collect(), next)
    }

    fn own_instance(&mut self, id: &InstanceId, lease: &Lease, alone: bool, now: Timestamp, acquired: &mut Acquired) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.owner = Some(lease.epoch);
            instance.blame.alone = alone;
        }
        self.settle_instance(id);
        if let Some(node) = self.nodes.get_mut(&lease.epoch) {
            node.handed.instances.push(id.clone());
        }
        let Some(instance) = self.instances.get(id) else { return };
        let mut given = self.acquired(id, instance, now);
        let sees = |message: &MessageRow| instance.messages.get(&message.id).is_none_or(|n| self.beside.sees(*n));
        given.messages.retain(sees);
        acquired.instances.push(given);
    }

    fn acquired(&self, id: &InstanceId, instance: &Instance, now: Timestamp) -> AcquiredInstance {
        AcquiredInstance {
            execution: ExecutionId { instance: id.clone(), number: instance.execution },
            name: instance.name.clone(),
            version: instance.version.clone(),
            last_event: instance.last_event(),
            messages: self.due_messages(instance, now),
            crashes: instance.blame.crashes,
            suspect: instance.blame.suspect,
        }
    }

    fn own_activity(&mut self, id: &ActivityId, lease: &Lease, alone: bool, acquired: &mut Acquired) {
        self.change_activity(id, |activity| {
            activity.owner = Some(lease.epoch);
            activity.blame.alone = alone;
        });
        if let Some(node) = self.nodes.get_mut(&lease.epoch) {
            node.handed.activities.push(id.clone());
        }
        acquired.activities.extend(self.acquired_activity(id));
    }

    fn acquired_activity(&self, id: &ActivityId) -> Option<AcquiredActivity> {
        let activity = self.activities.get(id)?;
        let Blame { crashes, suspect, .. } = activity.blame;
        let execution = self.instances.get(&id.execution.instance);
        let execution = execution.and_then(|instance| instance.executions.get(&id.execution.number));
        let scheduled = execution.and_then(|e| {
            let found = e.events.binary_search_by_key(&activity.scheduled, |event| event.id).ok()?;
            e.events.get(found)
        });
        scheduled.map(|scheduled| AcquiredActivity {
            id: id.clone(),
            attempt: activity.attempt,
            crashes,
            suspect,
            scheduled: scheduled.clone(),
            headers: activity.headers.clone(),
        })
    }

    /// When the next delayed message of an owned instance becomes visible.
    fn next_timer(&self, lease: &Lease, now: Timestamp) -> Option<Timestamp> {
        let later = self.delayed.range((now, i64::MAX)..);
        let mine = |arrival: &i64| self.messages.get(arrival).is_some_and(|m| self.owner(&m.to) == Some(lease.epoch));
        later.filter(|(due, _)| *due > now).find(|(_, arrival)| mine(arrival)).map(|(due, _)| *due)
    }
}

fn fits(want: &Want, instance: &Instance) -> bool {
    has_code(&want.orchestrations, &instance.name, instance.version.as_ref())
}

/// Which group an activity's name belongs to.
fn groups(want: &Want) -> HashMap<&str, usize> {
    let groups = want.activities.iter().enumerate();
    groups.flat_map(|(n, group)| group.names.iter().map(move |name| (name.as_str(), n))).collect()
}

fn group(groups: &HashMap<&str, usize>, want: &Want, activity: &Activity) -> Option<usize> {
    let served = serves(want.tags.as_deref(), activity.tag.as_ref());
    groups.get(activity.name.as_str()).copied().filter(|_| served)
}
