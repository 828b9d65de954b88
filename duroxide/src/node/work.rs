//! Requests for work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use semver::Version;

use super::lost::RequestNumber;
use super::{Answer, Node, Shared};
use crate::backoff::Backoff;
use crate::clock::Timestamp;
use crate::id::{ActivityId, InstanceId};
use crate::node::live::LiveInstance;
use crate::provider::{Acquired, ActivityGroup, Heard, Lease, Load, QUARANTINE, Want};

/// The state of the requests for work: the next one, and the one that is under way.
pub(super) struct Acquiring {
    /// True if a request is to be sent as soon as the last one is answered.
    pub(super) wanted: bool,
    /// The time at which work at the provider becomes due.
    pub(super) next_due: Option<Timestamp>,
    asking: bool,
    /// True if the provider may have activities for which there was no permit.
    saturated: bool,
    /// True if the provider may have instances for which there was no room.
    full: bool,
    /// The most instances that the request under way may claim.
    room: usize,
    /// The number of histories that are being read.
    histories: usize,
    /// Instances that the next request names.
    load: BTreeSet<InstanceId>,
    /// Instances whose live copies miss messages.
    gaps: BTreeSet<InstanceId>,
    /// Instances that the request under way names, each with the last message number that its live copy has.
    loading: BTreeMap<InstanceId, Option<u64>>,
    /// The last claim that was received.
    claim: u64,
    /// The instances of the last answer: the next request acknowledges their mail.
    heard: Vec<Heard>,
    /// Cancelled activities of the last answer, which the next request acknowledges.
    cancelled: Vec<ActivityId>,
    /// The number of the request under way, by which its answer settles doubts.
    asked: RequestNumber,
    /// The instance of a quarantined item, and the time until which nothing else is claimed beside it.
    quarantined: Option<(InstanceId, Timestamp)>,
    orchestrations: Arc<[(String, Version)]>,
    /// Names of activities: async, blocking.
    activities: [Arc<[String]>; 2],
}

impl Acquiring {
    /// The most turns that are due here while instances are claimed. More would wait here instead of on a node that has time.
    const QUEUE: usize = 64;
    /// The time for which nothing is claimed beside a quarantined item. It is limited, since the item may be innocent and
    /// take long.
    const ALONE: Duration = Duration::from_secs(1);

    pub(super) fn new(shared: &Shared) -> Self {
        let names = |blocking| shared.lookup.activity_names(blocking).cloned().collect();
        Self {
            wanted: true,
            next_due: None,
            asking: false,
            saturated: false,
            full: false,
            room: 0,
            histories: 0,
            load: BTreeSet::new(),
            gaps: BTreeSet::new(),
            loading: BTreeMap::new(),
            claim: 0,
            heard: Vec::new(),
            cancelled: Vec::new(),
            asked: RequestNumber::default(),
            quarantined: None,
            orchestrations: shared.info.handlers.orchestrations.clone().into(),
            activities: [names(false), names(true)],
        }
    }

    /// Requests work at this time or earlier.
    pub(super) fn due_at(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
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

    /// Ends the quarantine of an instance: a commit about it shows that it does no harm.
    pub(super) fn end_quarantine(&mut self, instance: &InstanceId) {
        if self.quarantined.as_ref().is_some_and(|(quarantined, _)| quarantined == instance) {
            self.quarantined = None;
            self.wanted = true;
        }
    }

    /// A history is about to be read.
    pub(super) fn history_is_read(&mut self) {
        self.histories += 1;
    }

    /// A history was read. It may have been requested under an earlier lease.
    pub(super) fn history_was_read(&mut self) {
        self.histories = self.histories.saturating_sub(1);
    }

    /// Requests activities if there was no permit for them: one was released.
    fn permit_is_free(&mut self) {
        self.wanted |= self.saturated;
    }
}

impl Node {
    pub(super) fn acquire_if_wanted(&mut self) {
        if self.permits.have_become_free() {
            self.acquiring.permit_is_free();
        }
        if self.acquiring.full && self.room() > 0 {
            self.acquiring.wanted = true;
        }
        for instance in std::mem::take(&mut self.acquiring.gaps) {
            if self.instances.get(&instance).is_some_and(LiveInstance::has_gap) {
                self.acquiring.load(instance);
            }
        }
        if !self.acquiring.wanted || self.acquiring.asking || self.rejoining {
            return;
        }
        let now = self.now();
        self.acquiring.quarantined.take_if(|(_, until)| *until <= now);
        let want = self.want();
        self.acquiring.wanted = false;
        self.acquiring.asking = true;
        // The answer contains the next due time.
        self.acquiring.next_due = None;
        let (shared, lease) = (self.shared.clone(), self.lease);
        self.ask(async move { acquire(&shared, &lease, want).await });
    }

    /// Returns how many more instances may be claimed, so that the queue of turns stays short: none rather than a few, since a
    /// claim costs a commit.
    fn room(&self) -> usize {
        let room = Acquiring::QUEUE.saturating_sub(self.turns + self.ready.len() + self.acquiring.histories);
        if room < Acquiring::QUEUE / 2 { 0 } else { room }
    }

    fn want(&mut self) -> Want {
        let limits = [self.shared.options.max_activities, self.shared.options.max_blocking_activities];
        let heard = |instance: &InstanceId| self.instances.get(instance).map(LiveInstance::heard);
        let load = std::mem::take(&mut self.acquiring.load).into_iter();
        self.acquiring.loading = load.map(|instance| (instance.clone(), heard(&instance))).collect();
        let alone = self.acquiring.quarantined.is_none();
        let closed = self.draining.is_some() || !alone;
        let mut groups = Vec::new();
        self.acquiring.saturated = false;
        self.acquiring.room = if closed { 0 } else { self.room() };
        self.acquiring.full = !closed && self.acquiring.room == 0;
        self.acquiring.asked = self.lost.next_request();
        for (kind, names) in self.acquiring.activities.iter().enumerate() {
            let limit = if closed { 0 } else { limits[kind].saturating_sub(self.permits.taken(kind)) };
            self.acquiring.saturated |= limit == 0 && !names.is_empty();
            if limit > 0 && !names.is_empty() {
                groups.push(ActivityGroup { names: names.clone(), limit });
            }
        }
        let load = self.acquiring.loading.iter();
        Want {
            orchestrations: self.acquiring.orchestrations.clone(),
            instances: self.acquiring.room,
            activities: groups,
            tags: self.shared.tags.clone(),
            load: load.map(|(instance, heard)| Load { instance: instance.clone(), heard: *heard }).collect(),
            alone,
            now: self.now(),
            claim: self.acquiring.claim,
            heard: std::mem::take(&mut self.acquiring.heard),
            cancelled: std::mem::take(&mut self.acquiring.cancelled),
        }
    }

    pub(super) fn acquired(&mut self, lease: Lease, sent: Timestamp, acquired: Acquired) {
        if lease != self.lease {
            // The items of a lost lease belong to other nodes.
            return;
        }
        self.acquiring.asking = false;
        self.acquiring.claim = acquired.claim;
        let loading = std::mem::take(&mut self.acquiring.loading);
        let now = self.now();
        // Work was due when the request was sent, even if the clock has been set back since.
        let more = acquired.next_due.is_some_and(|due| due <= now.max(sent));
        if let Some(due) = acquired.next_due.filter(|_| !more) {
            self.acquiring.due_at(due);
        }
        self.acquiring.full |= self.acquiring.room > 0 && acquired.instances.len() >= self.acquiring.room;
        if let Some(instance) = quarantined(&acquired) {
            self.acquiring.quarantined = Some((instance.clone(), now + Acquiring::ALONE));
        }
        if let Some((_, until)) = self.acquiring.quarantined {
            self.acquiring.due_at(until);
        }
        for instance in acquired.instances {
            let id = &instance.execution.instance;
            let is_partial = loading.get(id).is_some_and(Option::is_some);
            if is_partial && !self.instances.contains_key(id) {
                // The live copy that had the earlier messages was dropped in the meantime.
                self.acquiring.load(id.clone());
                continue;
            }
            self.settle_loaded(&instance.execution, instance.last_event, self.acquiring.asked);
            let (instance_id, identity) = (id.clone(), instance.execution.identity);
            self.acquiring.heard.push(Heard { instance: instance_id, identity, number: instance.arrivals });
            self.take(instance);
        }
        for instance in loading.keys() {
            if !self.acquiring.load.contains(instance) && !self.instances.contains_key(instance) {
                self.read_unconfirmed(instance);
            }
        }
        acquired.cancelled.iter().for_each(|id| self.cancel_attempt(id));
        self.acquiring.cancelled = acquired.cancelled;
        for activity in acquired.activities {
            self.take_on_activity(activity);
        }
        // Another request follows even if there is no permit: it leaves out the kinds without a permit, and its answer contains
        // the due time of the others.
        self.acquiring.wanted |= more;
    }
}

/// Returns the instance of the quarantined item in this answer, if any. Suspect items do not count, since they are suspended
/// instead of run.
fn quarantined(acquired: &Acquired) -> Option<&InstanceId> {
    let instances = acquired.instances.iter().map(|i| (&i.execution.instance, i.crashes, i.suspect));
    let activities = acquired.activities.iter().map(|a| (&a.id.execution.instance, a.crashes, a.suspect));
    let mut items = instances.chain(activities);
    items.find(|(_, crashes, suspect)| *crashes >= QUARANTINE && !suspect).map(|(instance, ..)| instance)
}

/// Requests work until there is an answer: a failure of the storage only delays it.
async fn acquire(shared: &Shared, lease: &Lease, want: Want) -> Answer {
    let mut backoff = Backoff::default();
    loop {
        match shared.provider.acquire(lease, want.clone()).await {
            Ok(acquired) => return Answer::Acquired(*lease, want.now, acquired),
            Err(error) => {
                tracing::warn!(%error, attempts = backoff.attempts(), "acquiring failed; retrying");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}
