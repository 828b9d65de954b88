//! Asking the provider for work.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use semver::Version;

use super::doubts::Question;
use super::{Answer, Node, Shared};
use crate::clock::Timestamp;
use crate::id::{InstanceId, MessageId};
use crate::provider::{Acquired, ActivityGroup, Cursor, Lease, MessageRow, QUARANTINE, Want};
use crate::runtime::Backoff;
use crate::runtime::slot::Delivery;

/// What is known about work that waits at the provider.
pub(super) struct Acquiring {
    /// Whether to ask as soon as the last question is answered.
    pub(super) wanted: bool,
    /// The earliest time at which something becomes due.
    pub(super) next_due: Option<Timestamp>,
    asking: bool,
    /// Whether there may be activities at the provider for which there was no place.
    saturated: bool,
    /// Instances that are asked for by name with the next question.
    load: BTreeSet<InstanceId>,
    /// Those that the question which is not answered yet asks for by name.
    loading: BTreeSet<InstanceId>,
    /// Messages that were handed over to them meanwhile, and may be later than what the answer brings.
    behind: Vec<(InstanceId, MessageRow)>,
    /// Messages that were read, and removed, since the question was asked: its answer may still bring them.
    read: HashSet<MessageId>,
    /// Instances that have gone on since then: its answer may show them as they were.
    advanced: HashSet<InstanceId>,
    cursor: Cursor,
    /// How many questions were asked under this lease.
    questions: u64,
    /// The last of them, as doubts count it.
    asked: Question,
    /// The instance of an item that has crashed often, and until when nothing else is taken on beside it.
    unproven: Option<(InstanceId, Timestamp)>,
    orchestrations: Arc<[(String, Version)]>,
    /// Names of activities: async, blocking.
    activities: [Arc<[String]>; 2],
}

impl Acquiring {
    /// The most instances that are taken on at once: what is more is found with the next question.
    const INSTANCES: usize = 256;
    /// How long nothing else is taken on beside an item that has crashed often. Not for ever: it may be innocent, and long.
    const ALONE: Duration = Duration::from_secs(1);
    /// The most messages that are kept for an answer: what is more is found with the next question.
    const BEHIND: usize = 1024;

    pub(super) fn new(shared: &Shared) -> Self {
        let names = |blocking| shared.lookup.activity_names(blocking).cloned().collect();
        Self {
            wanted: true,
            next_due: None,
            asking: false,
            saturated: false,
            load: BTreeSet::new(),
            loading: BTreeSet::new(),
            behind: Vec::new(),
            read: HashSet::new(),
            advanced: HashSet::new(),
            cursor: Cursor::default(),
            questions: 0,
            asked: Question::default(),
            unproven: None,
            orchestrations: shared.info.handlers.orchestrations.clone().into(),
            activities: [names(false), names(true)],
        }
    }

    /// Something becomes due at this time.
    pub(super) fn due_at(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    /// An instance of this node has no live copy, and a message.
    pub(super) fn load(&mut self, instance: InstanceId) {
        self.load.insert(instance);
        self.wanted = true;
    }

    /// Whether what arrived up to this number was brought by an answer.
    pub(super) fn has_found(&self, last: Option<i64>) -> bool {
        last.is_none_or(|last| last <= self.cursor.arrival)
    }

    /// Lets a message pass that may be delivered now. Where an answer is still to bring others of its instance, which came
    /// before, it comes with these or is kept behind them: what was handed over while the instance was not in memory was not
    /// kept anywhere, and an answer that was on its way then lacks it.
    pub(super) fn in_turn(&mut self, instance: &InstanceId, message: MessageRow) -> Option<MessageRow> {
        if self.load.contains(instance) {
            return None;
        }
        if !self.loading.contains(instance) {
            return Some(message);
        }
        if self.behind.len() < Self::BEHIND {
            self.behind.push((instance.clone(), message));
        } else {
            self.load(instance.clone());
        }
        None
    }

    /// A turn is committed: the instance has gone on, and the messages that it has read are gone.
    pub(super) fn has_advanced(&mut self, instance: &InstanceId, read: &[MessageId]) {
        if self.asking {
            self.read.extend(read);
            self.advanced.insert(instance.clone());
        }
    }

    /// Something about this instance was committed. If it had crashed often, it has shown that it does no harm.
    pub(super) fn is_proven(&mut self, instance: &InstanceId) {
        if self.unproven.as_ref().is_some_and(|(unproven, _)| unproven == instance) {
            self.unproven = None;
            self.wanted = true;
        }
    }

    /// An activity has given up its place: another may have it.
    fn place_is_free(&mut self) {
        self.wanted |= self.saturated;
    }
}

impl Node {
    pub(super) fn acquire_if_wanted(&mut self) {
        if self.places.have_become_free() {
            self.acquiring.place_is_free();
        }
        if !self.acquiring.wanted || self.acquiring.asking || self.rejoining {
            return;
        }
        let now = self.now();
        self.acquiring.unproven.take_if(|(_, until)| *until <= now);
        let want = self.want();
        self.acquiring.wanted = false;
        self.acquiring.asking = true;
        // The answer tells what is due next.
        self.acquiring.next_due = None;
        let (shared, lease) = (self.shared.clone(), self.lease);
        self.ask(async move { acquire(&shared, &lease, want).await });
    }

    fn want(&mut self) -> Want {
        let limits = [self.shared.options.max_activities, self.shared.options.max_blocking_activities];
        self.acquiring.loading = std::mem::take(&mut self.acquiring.load);
        let alone = self.acquiring.unproven.is_none();
        let closed = self.draining.is_some() || !alone;
        let mut groups = Vec::new();
        self.acquiring.saturated = false;
        self.acquiring.questions += 1;
        self.acquiring.asked = self.doubts.question();
        for (kind, names) in self.acquiring.activities.iter().enumerate() {
            let limit = if closed { 0 } else { limits[kind].saturating_sub(self.places.taken(kind)) };
            self.acquiring.saturated |= limit == 0 && !names.is_empty();
            if limit > 0 && !names.is_empty() {
                groups.push(ActivityGroup { names: names.clone(), limit });
            }
        }
        Want {
            orchestrations: self.acquiring.orchestrations.clone(),
            instances: if closed { 0 } else { Acquiring::INSTANCES },
            activities: groups,
            tags: self.shared.tags.clone(),
            load: self.acquiring.loading.iter().cloned().collect(),
            alone,
            now: self.now(),
            cursor: self.acquiring.cursor,
            question: Some(self.acquiring.questions),
        }
    }

    pub(super) fn acquired(&mut self, lease: Lease, acquired: Acquired) {
        if lease != self.lease {
            // What was handed to a lease that is lost belongs to others.
            return;
        }
        self.acquiring.asking = false;
        let loading = std::mem::take(&mut self.acquiring.loading);
        let behind = std::mem::take(&mut self.acquiring.behind);
        let read = std::mem::take(&mut self.acquiring.read);
        let advanced = std::mem::take(&mut self.acquiring.advanced);
        self.acquiring.cursor = acquired.cursor;
        let now = self.now();
        // Of the past when it was said, although the clock may have been set back since.
        let more = acquired.next_due.is_some_and(|due| due <= now.max(acquired.cursor.time));
        if let Some(due) = acquired.next_due.filter(|_| !more) {
            self.acquiring.due_at(due);
        }
        self.acquiring.wanted |= acquired.instances.len() >= Acquiring::INSTANCES;
        if let Some(instance) = unproven(&acquired) {
            self.acquiring.unproven = Some((instance.clone(), now + Acquiring::ALONE));
        }
        if let Some((_, until)) = self.acquiring.unproven {
            self.acquiring.due_at(until);
        }
        for mut instance in acquired.instances {
            let id = &instance.execution.instance;
            self.handed_out(&instance.execution, instance.last_event, self.acquiring.asked);
            if !advanced.contains(id) {
                self.drop_if_other(&instance);
            } else if !self.slots.contains_key(id) {
                self.acquiring.load(id.clone());
                continue;
            }
            instance.messages.retain(|message| !read.contains(&message.id));
            self.take_on(instance);
        }
        for instance in &loading {
            if !self.acquiring.load.contains(instance) && !self.slots.contains_key(instance) {
                self.look_for(instance);
            }
        }
        for (instance, message) in acquired.messages.into_iter().filter(|(_, message)| !read.contains(&message.id)) {
            self.deliver(instance, Delivery::Message(message));
        }
        for (instance, message) in behind {
            self.deliver(instance, Delivery::Message(message));
        }
        for activity in acquired.activities {
            self.take_on_activity(activity);
        }
        // Asked again even when there is no place for more: what is full is left out then, and the answer tells what is due
        // next of the rest.
        self.acquiring.wanted |= more;
    }
}

/// The item that has crashed often, if one was handed out, by its instance. What is suspect is not run.
fn unproven(acquired: &Acquired) -> Option<&InstanceId> {
    let instances = acquired.instances.iter().map(|i| (&i.execution.instance, i.crashes, i.suspect));
    let activities = acquired.activities.iter().map(|a| (&a.id.execution.instance, a.crashes, a.suspect));
    let mut items = instances.chain(activities);
    items.find(|(_, crashes, suspect)| *crashes >= QUARANTINE && !suspect).map(|(instance, ..)| instance)
}

/// Asks until there is an answer: storage that fails only delays.
async fn acquire(shared: &Shared, lease: &Lease, want: Want) -> Answer {
    let mut backoff = Backoff::default();
    loop {
        match shared.provider.acquire(lease, want.clone()).await {
            Ok(acquired) => return Answer::Acquired(*lease, acquired),
            Err(error) => {
                tracing::warn!(%error, attempts = backoff.attempts(), "acquiring failed; it is tried again");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}
