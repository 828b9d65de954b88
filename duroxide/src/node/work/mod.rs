//! The state of the requests for work: the next one, and the one that is under way. At most one is.

mod backlogs;
mod retries;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use semver::Version;

use self::backlogs::Backlogs;
use self::retries::Retries;
use super::activities::Kind;
use super::lost::RequestNumber;
use crate::clock::Timestamp;
use crate::id::{ActivityId, InstanceId};
use crate::provider::{Acquired, AcquiredInstance, ActivityGroup, Heard, Load, QUARANTINE, Want};
use crate::registry::Lookup;

/// The requests for work.
pub(super) struct WorkRequests {
    served: Served,
    /// True if a request is to be sent as soon as the last one is answered.
    wanted: bool,
    /// The time at which work at the provider becomes due.
    next_due: Option<Timestamp>,
    retries: Retries,
    is_under_way: bool,
    /// True if the provider may have activities for which there was no permit.
    saturated: bool,
    /// True if the provider may have instances for which there was no room.
    full: bool,
    /// The most instances that the request under way may claim.
    room: usize,
    /// The most activities that it may claim.
    permits: usize,
    /// Instances that the next request names.
    load: BTreeSet<InstanceId>,
    /// Instances whose live copies miss messages.
    gaps: BTreeSet<InstanceId>,
    backlogs: Backlogs,
    /// Instances that the request under way names, each with the last message number that its live copy has.
    loading: BTreeMap<InstanceId, Option<u64>>,
    /// The last claim that was received.
    claim: u64,
    /// The instances of the last answer: the next request acknowledges their mail.
    heard: Vec<Heard>,
    /// Cancelled activities of the last answer, which the next request acknowledges.
    cancelled: Vec<ActivityId>,
    /// The number of the request under way, by which its answer settles unconfirmed activities.
    number: RequestNumber,
    /// The instance of a quarantined item, and the time until which nothing else is claimed beside it.
    quarantined: Option<(InstanceId, Timestamp)>,
}

/// The code that the node has, by name, and the tags that it serves.
#[derive(Clone)]
pub(super) struct Served {
    orchestrations: Arc<[(String, Version)]>,
    /// Names of activities: async, blocking.
    activities: [Arc<[String]>; 2],
    tags: Option<Arc<[String]>>,
}

/// The capacity of the node for more work.
pub(super) struct Capacity {
    /// The turns that are due here: ready or running, or about to be when a history is read.
    pub(super) turns: usize,
    /// The permits that are free, of each kind.
    pub(super) permits: [usize; 2],
    /// True if the node shuts down.
    pub(super) is_draining: bool,
}

/// The answer to a request, as far as it concerns the instances that the request named.
pub(super) struct Answered {
    loading: BTreeMap<InstanceId, Option<u64>>,
    /// The number of the request.
    pub(super) number: RequestNumber,
    /// The number of the new claim, if anything was claimed.
    claim: Option<u64>,
}

impl Served {
    pub(super) fn new(lookup: &Lookup, tags: Option<Arc<[String]>>) -> Self {
        let names = |blocking| lookup.activity_names(blocking).cloned().collect();
        let orchestrations = lookup.orchestrations().into();
        Self { orchestrations, activities: [names(false), names(true)], tags }
    }
}

impl Capacity {
    /// The most turns that are due here while instances are claimed. More would wait here instead of on a node that has
    /// time.
    const QUEUE: usize = 64;

    /// Returns how many more instances may be claimed, so that the queue of turns stays short: none rather than a few,
    /// since a claim costs a commit.
    fn room(&self) -> usize {
        let room = Self::QUEUE.saturating_sub(self.turns);
        if room < Self::QUEUE / 2 { 0 } else { room }
    }

    /// Returns true if the queue of turns is short.
    pub(super) fn has_room(&self) -> bool {
        self.room() > 0
    }
}

impl WorkRequests {
    /// The time for which nothing is claimed beside a quarantined item. It is limited, since the item may be innocent
    /// and take long.
    const ALONE: Duration = Duration::from_secs(1);

    pub(super) fn new(served: Served) -> Self {
        Self {
            served,
            wanted: true,
            next_due: None,
            retries: Retries::default(),
            is_under_way: false,
            saturated: false,
            full: false,
            room: 0,
            permits: 0,
            load: BTreeSet::new(),
            gaps: BTreeSet::new(),
            backlogs: Backlogs::default(),
            loading: BTreeMap::new(),
            claim: 0,
            heard: Vec::new(),
            cancelled: Vec::new(),
            number: RequestNumber::default(),
            quarantined: None,
        }
    }

    /// Starts again under another lease. A request that is under way belongs to the lost one.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.served.clone());
    }

    /// Requests work as soon as possible.
    pub(super) fn request(&mut self) {
        self.wanted = true;
    }

    /// Requests work at this time or earlier.
    pub(super) fn request_at(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    /// Records an activity that is requeued now and due at `due`.
    pub(super) fn measure_pause(&mut self, activity: ActivityId, due: Timestamp) {
        self.retries.add(activity, due);
    }

    /// Requests work if the provider has work that is due.
    pub(super) fn request_if_due(&mut self, now: Timestamp) {
        self.wanted |= self.next_due.is_some_and(|due| due <= now) | self.retries.pass(now);
    }

    /// Returns when work at the provider becomes due, unless a request is sent anyway.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.next_due.into_iter().chain(self.retries.next()).min().filter(|_| !self.wanted)
    }

    /// Requests an owned instance by name: it has a message and no live copy, or its live copy misses a message.
    pub(super) fn load(&mut self, instance: InstanceId) {
        self.load.insert(instance);
        self.wanted = true;
    }

    /// Requests the missing messages of a live copy, unless they arrive in this round of the node's loop.
    pub(super) fn fill_gap(&mut self, instance: InstanceId) {
        self.gaps.insert(instance);
    }

    /// Requests activities if there was no permit for them: one was released.
    pub(super) fn permit_is_free(&mut self) {
        self.wanted |= self.saturated;
    }

    /// Ends the quarantine of an instance: a commit about it shows that it does no harm.
    pub(super) fn end_quarantine(&mut self, instance: &InstanceId) {
        if self.quarantined.as_ref().is_some_and(|(quarantined, _)| quarantined == instance) {
            self.quarantined = None;
            self.wanted = true;
        }
    }

    /// Moves the ends of pauses, since the clock was set by these microseconds. The provider judges all other times.
    pub(super) fn clock_was_set(&mut self, step: i64) {
        self.retries.clock_was_set(step);
        if let Some((_, until)) = &mut self.quarantined {
            *until = until.shifted(step);
            let until = *until;
            self.request_at(until);
        }
    }

    /// Returns true if a request is to be sent now. `has_gap` returns true if a live copy still misses messages.
    pub(super) fn is_due(&mut self, capacity: &Capacity, has_gap: impl Fn(&InstanceId) -> bool) -> bool {
        self.wanted |= self.full && capacity.room() > 0;
        for instance in std::mem::take(&mut self.gaps) {
            if has_gap(&instance) {
                self.load(instance);
            }
        }
        self.wanted && !self.is_under_way
    }

    /// Begins a request. `heard` returns the last message number of a live copy.
    pub(super) fn begin(
        &mut self,
        number: RequestNumber,
        capacity: &Capacity,
        now: Timestamp,
        heard: impl Fn(&InstanceId) -> Option<u64>,
    ) -> Want {
        self.quarantined.take_if(|(_, until)| *until <= now);
        let alone = self.quarantined.is_none();
        let closed = capacity.is_draining || !alone;
        let backlogs = self.backlogs.named(|instance| heard(instance).is_some());
        let load = std::mem::take(&mut self.load).into_iter().chain(backlogs.cloned());
        self.loading = load.map(|instance| (instance.clone(), heard(&instance))).collect();
        (self.wanted, self.is_under_way, self.number) = (false, true, number);
        // The answer contains the next due time.
        self.next_due = None;
        self.room = if closed { 0 } else { capacity.room() };
        self.full = !closed && self.room == 0;
        let activities = self.activity_groups(if closed { [0, 0] } else { capacity.permits });
        self.permits = activities.iter().fold(0, |sum, group| sum.saturating_add(group.limit));
        let load = self.loading.iter();
        Want {
            orchestrations: self.served.orchestrations.clone(),
            instances: self.room,
            activities,
            tags: self.served.tags.clone(),
            load: load.map(|(instance, heard)| Load { instance: instance.clone(), heard: *heard }).collect(),
            alone,
            now,
            claim: self.claim,
            heard: std::mem::take(&mut self.heard),
            cancelled: std::mem::take(&mut self.cancelled),
            overdue: self.retries.name(now),
        }
    }

    fn activity_groups(&mut self, limits: [usize; 2]) -> Vec<ActivityGroup> {
        self.saturated = false;
        let mut groups = Vec::new();
        for kind in Kind::ALL {
            let (names, limit) = (&self.served.activities[kind as usize], limits[kind as usize]);
            self.saturated |= limit == 0 && !names.is_empty();
            if limit > 0 && !names.is_empty() {
                groups.push(ActivityGroup { names: names.clone(), limit });
            }
        }
        groups
    }

    /// Ends the request under way, which was sent at `sent`.
    pub(super) fn end(&mut self, acquired: &Acquired, sent: Timestamp, now: Timestamp) -> Answered {
        self.is_under_way = false;
        let claimed = &acquired.activities;
        self.retries.answered(claimed, !self.saturated && claimed.len() < self.permits);
        let claim = (acquired.claim != self.claim).then_some(acquired.claim);
        self.claim = acquired.claim;
        // Work was due when the request was sent, even if the clock has been set back since.
        let more = acquired.next_due.is_some_and(|due| due <= now.max(sent));
        // Another request follows even if there is no permit: it leaves out the kinds without a permit, and its answer
        // contains the due time of the others.
        self.wanted |= more;
        if let Some(due) = acquired.next_due.filter(|_| !more) {
            self.request_at(due);
        }
        let claimed = acquired.instances.iter().filter(|instance| claim == Some(instance.claim)).count();
        self.full |= self.room > 0 && claimed >= self.room;
        if let Some(instance) = quarantined(acquired) {
            self.quarantined = Some((instance.clone(), now + Self::ALONE));
        }
        if let Some((_, until)) = self.quarantined {
            self.request_at(until);
        }
        Answered { loading: std::mem::take(&mut self.loading), number: self.number, claim }
    }

    /// Returns true if an instance of an answer can be used, and acknowledges its mail with the next request. Otherwise
    /// the answer holds only later messages, and the live copy that had the earlier ones was dropped in the meantime:
    /// loads the instance again.
    pub(super) fn accept(&mut self, answered: &Answered, acquired: &AcquiredInstance, is_live: bool) -> bool {
        let instance = &acquired.execution.instance;
        let is_partial = answered.loading.get(instance).is_some_and(Option::is_some);
        if is_partial && !is_live {
            self.load(instance.clone());
            return false;
        }
        let is_mail = !answered.loading.contains_key(instance) && !answered.claims(acquired);
        if is_mail && is_live && acquired.messages.len() > Backlogs::MESSAGES {
            self.backlogs.add(instance.clone());
        } else {
            self.backlogs.answered(instance, acquired.messages.len());
        }
        let (instance, identity) = (instance.clone(), acquired.execution.identity);
        self.heard.push(Heard { instance, identity, number: acquired.arrivals });
        true
    }

    /// Acknowledges cancelled activities with the next request.
    pub(super) fn acknowledge(&mut self, cancelled: Vec<ActivityId>) {
        self.cancelled = cancelled;
    }

    /// Returns true if an instance is to be loaded by the next request.
    pub(super) fn will_load(&self, instance: &InstanceId) -> bool {
        self.load.contains(instance)
    }
}

impl Answered {
    /// Returns true if the answer has claimed this instance.
    pub(super) fn claims(&self, acquired: &AcquiredInstance) -> bool {
        self.claim == Some(acquired.claim)
    }

    /// Returns the instances that the request has named.
    pub(super) fn requested(&self) -> impl Iterator<Item = &InstanceId> {
        self.loading.keys()
    }
}

/// Returns the instance of the quarantined item in this answer, if any. Suspect items do not count, since they are
/// suspended instead of run.
fn quarantined(acquired: &Acquired) -> Option<&InstanceId> {
    let instances = acquired.instances.iter().map(|i| (&i.execution.instance, i.crashes, i.suspect));
    let activities = acquired.activities.iter().map(|a| (&a.id.execution.instance, a.crashes, a.suspect));
    let mut items = instances.chain(activities);
    items.find(|(_, crashes, suspect)| *crashes >= QUARANTINE && !suspect).map(|(instance, ..)| instance)
}

#[cfg(test)]
mod tests;
