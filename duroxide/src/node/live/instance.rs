//! An instance that is live on this node: its copy in memory, and the deliveries for its next turn.

use std::collections::BTreeMap;
use std::time::Duration;

use semver::Version;

use super::timers::Timer;
use crate::clock::Timestamp;
use crate::id::{ActivityId, CallId, EventId, ExecutionId, MessageId};
use crate::message::Lane;
use crate::node::command::{LivenessWatcher, PendingStart};
use crate::node::delivery::Delivery;
use crate::node::inbox::Inbox;
use crate::provider::{AcquiredInstance, MessageRow};
use crate::replay::{Execution, Held};

/// An instance that is live here.
pub(in crate::node) struct LiveInstance {
    /// Distinguishes this live copy from earlier ones of the instance, so that late answers to those are recognised.
    pub(in crate::node) generation: u64,
    pub(in crate::node) execution: ExecutionId,
    pub(in crate::node) name: String,
    /// The version that the instance is pinned to. `None`: not yet.
    pub(in crate::node) version: Option<Version>,
    /// The last event that is committed.
    pub(in crate::node) committed: EventId,
    pub(super) state: LiveState,
    /// True if the stored instance was ended, paused, replaced, or advanced by another node while a turn was in flight: then
    /// the copy is dropped when the turn ends.
    pub(super) is_stale: bool,
    /// The claim by which the node owns it.
    pub(super) claim: u64,
    /// Deliveries for the next turn.
    inbox: Inbox,
    /// The held events of the execution before, until the first turn takes them over.
    held: Held,
    /// The number of the last message: the live copy has received every message up to it.
    heard: u64,
    /// Messages with higher numbers than the next one, which wait until the gap before them is filled.
    ahead: BTreeMap<u64, MessageRow>,
    /// Messages that are due later, by the time at which this node delivers them ([`Timer::by`]).
    timers: BTreeMap<(Timestamp, MessageId), MessageRow>,
    /// The instance that its first turn will create. `None`: it is stored.
    pub(super) eager_start: Option<PendingStart>,
    /// Clients that wait until the instance is no longer live.
    watchers: Vec<LivenessWatcher>,
    /// When it was last used, in ticks of the node.
    pub(super) used: u64,
}

pub(super) enum LiveState {
    /// The instance waits, with its live copy.
    Idle(Box<Execution>),
    /// There is no live copy yet: the first turn makes it.
    Cold,
    /// The history is being read.
    Loading,
    /// A turn runs.
    Busy,
    /// The commit of a turn is in flight.
    Committing,
}

impl LiveState {
    /// Returns true while a turn runs or its commit is in flight.
    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self, Self::Busy | Self::Committing)
    }
}

impl LiveInstance {
    /// Makes an instance live that the provider has returned.
    /// Its timers fire `ahead` of their stored times.
    pub(super) fn acquired(generation: u64, acquired: AcquiredInstance, ahead: Duration, now: Timestamp) -> Self {
        let mut live = Self::new(generation, acquired.execution, acquired.name, acquired.version);
        live.committed = acquired.last_event;
        live.claim = acquired.claim;
        live.state = if acquired.last_event == EventId(0) { LiveState::Cold } else { LiveState::Loading };
        live.heard = acquired.arrivals;
        for message in acquired.messages {
            live.heard = live.heard.max(message.number.unwrap_or(0));
            live.store(message, ahead, now);
        }
        live
    }

    /// Returns true if this is not the live copy of the stored instance: the id belongs to another one, or another node
    /// has advanced it.
    ///
    /// While a turn is in flight, its own commit may have advanced the instance. But a new claim shows that the node has not
    /// owned it in between: that commit has ended it, for example, and it was reset. Its messages may then be numbered from
    /// the beginning again.
    pub(super) fn is_other_than(&self, acquired: &AcquiredInstance) -> bool {
        let stored = (acquired.execution.number, acquired.last_event);
        let is_outdated = if self.state.is_in_flight() {
            self.claim != acquired.claim
        } else {
            (self.execution.number, self.committed) < stored
        };
        self.execution.identity != acquired.execution.identity || is_outdated
    }

    /// Makes an instance without history live.
    pub(super) fn new(generation: u64, execution: ExecutionId, name: String, version: Option<Version>) -> Self {
        Self {
            generation,
            execution,
            name,
            version,
            committed: EventId(0),
            state: LiveState::Cold,
            is_stale: false,
            claim: 0,
            inbox: Inbox::default(),
            held: Held::default(),
            heard: 0,
            ahead: BTreeMap::new(),
            timers: BTreeMap::new(),
            eager_start: None,
            watchers: Vec::new(),
            used: 0,
        }
    }

    /// Adds a message for the next turn, or for the time when it is due.
    fn store(&mut self, message: MessageRow, ahead: Duration, now: Timestamp) {
        match message.visible_at.map(|due| due - ahead) {
            Some(by) if by > now => drop(self.timers.insert((by, message.id), message)),
            _ => self.inbox.push(Delivery::message(message)),
        }
    }

    /// Adds a delivery without a number for the next turn: an outcome, or the start that creates the instance.
    pub(super) fn deliver(&mut self, delivery: Delivery, now: Timestamp) {
        self.fire_timers(now);
        self.inbox.push(delivery);
    }

    /// Adds a timer of this execution.
    pub(super) fn add_timer(&mut self, timer: Timer, message: MessageRow) {
        self.timers.insert((timer.by, message.id), message);
    }

    /// Moves the timers, since the clock was set by these microseconds.
    pub(super) fn clock_was_set(&mut self, step: i64) {
        for ((by, id), message) in std::mem::take(&mut self.timers) {
            let by = message.visible_at.map_or(by, |due| Timer { by, due }.moved(step).by);
            self.timers.insert((by, id), message);
        }
    }

    /// Removes the timers of a call, including those that are due and wait for the next turn.
    pub(super) fn remove_timers(&mut self, call: CallId) {
        let is_timer = |message: &MessageRow| message.visible_at.is_some() && message.call == Some(call);
        self.timers.retain(|_, message| !is_timer(message));
        self.inbox.remove_others(|delivery| matches!(delivery, Delivery::Message(message) if is_timer(message)));
    }

    /// Returns true if messages are missing before some that were received.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Adds a numbered message for the next turn, unless the live copy has received it before. Returns false if messages
    /// before it are missing.
    pub(super) fn receive(&mut self, number: u64, message: MessageRow, now: Timestamp) -> bool {
        // A timer that was due before the message came is delivered before it.
        self.fire_timers(now);
        if number > self.heard {
            self.ahead.insert(number, message);
        }
        while let Some(message) = self.ahead.remove(&(self.heard + 1)) {
            self.heard += 1;
            self.inbox.push(Delivery::message(message));
        }
        self.ahead.is_empty()
    }

    /// Adds the messages of an answer that the live copy has not received before, and counts all up to `arrivals` as
    /// received.
    pub(super) fn receive_all(&mut self, messages: Vec<MessageRow>, arrivals: u64, now: Timestamp) {
        self.fire_timers(now);
        let mut heard = self.heard.max(arrivals);
        for message in messages {
            // The live copy has its timers: the node has created them, or received them with the instance.
            let Some(number) = message.number.filter(|number| *number > self.heard) else { continue };
            heard = heard.max(number);
            self.ahead.remove(&number);
            if message.visible_at.is_some() && !self.replaces_timer(&message) {
                continue;
            }
            self.inbox.push(Delivery::message(message));
        }
        self.heard = heard;
        self.ahead.retain(|number, _| *number > heard);
        while let Some(message) = self.ahead.remove(&(self.heard + 1)) {
            self.heard += 1;
            self.inbox.push(Delivery::message(message));
        }
    }

    /// Removes the timer of a delayed message that a client has made due. Returns false if the timer has fired, so that the
    /// message is in the inbox already.
    fn replaces_timer(&mut self, woken: &MessageRow) -> bool {
        self.timers.retain(|(_, id), _| *id != woken.id);
        !self.inbox.others().any(|delivery| matches!(delivery, Delivery::Message(message) if message.id == woken.id))
    }

    /// Counts the start as received: its client has stored it as a message with this number.
    pub(super) fn start_is_stored(&mut self, number: u64) {
        self.heard = self.heard.max(number);
    }

    /// Returns the number of the last message that it has received.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Moves the timers that are due to the deliveries of the next turn.
    pub(super) fn fire_timers(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= now) {
            self.inbox.push(Delivery::message(timer.remove()));
        }
    }

    /// Begins a turn. Returns the live copy, unless the turn makes it.
    pub(in crate::node) fn begin_turn(&mut self) -> Option<Box<Execution>> {
        match std::mem::replace(&mut self.state, LiveState::Busy) {
            LiveState::Idle(execution) => Some(execution),
            LiveState::Cold | LiveState::Loading | LiveState::Busy | LiveState::Committing => None,
        }
    }

    /// Returns true if the first turn creates the instance, and its client waits for that.
    pub(in crate::node) fn is_created_by_its_turn(&self) -> bool {
        self.eager_start.is_some()
    }

    /// Begins the commit of a turn. Returns the instance that the turn creates.
    pub(in crate::node) fn begin_commit(&mut self) -> Option<PendingStart> {
        self.state = LiveState::Committing;
        self.eager_start.take()
    }

    /// Returns the next timer.
    pub(super) fn next_timer(&self) -> Option<Timer> {
        let ((by, _), message) = self.timers.first_key_value()?;
        Some(Timer { by: *by, due: message.visible_at.unwrap_or(*by) })
    }

    /// Marks the copy as stale. Clients that wait until the instance is not live read the storage, which is ahead of it.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
        self.watchers.clear();
    }

    /// Adds a client that waits until the instance is no longer live.
    pub(super) fn watch(&mut self, watcher: LivenessWatcher) {
        // Prune closed watchers whenever the list would reallocate, so repeated waits do not grow it.
        if self.watchers.len() == self.watchers.capacity() {
            self.watchers.retain(|watcher| !watcher.is_closed());
        }
        self.watchers.push(watcher);
    }

    /// Moves the watchers, the received messages and the held events of the execution before this one. Returns outcomes
    /// of that execution.
    pub(super) fn continues(&mut self, old: &mut Self, held: Held) -> Vec<Delivery> {
        self.watchers = std::mem::take(&mut old.watchers);
        self.ahead = std::mem::take(&mut old.ahead);
        (self.heard, self.claim) = (old.heard, old.claim);
        (self.inbox, self.held) = (std::mem::take(&mut old.inbox), held);
        // The storage has removed the messages for that execution.
        let number = old.execution.number;
        let is_old = |delivery: &Delivery| matches!(delivery, Delivery::Message(m) if m.execution == Some(number));
        self.inbox.remove_others(is_old);
        self.inbox.remove_others(|delivery| matches!(delivery, Delivery::Outcome(_)))
    }

    /// Takes the held events that the execution of the next turn takes over.
    pub(in crate::node) fn take_held(&mut self) -> Held {
        std::mem::take(&mut self.held)
    }

    /// Puts back the deliveries that a turn has not read.
    pub(super) fn put_back(&mut self, mut undelivered: Inbox) {
        if !undelivered.is_empty() {
            undelivered.append(std::mem::take(&mut self.inbox));
            self.inbox = undelivered;
        }
    }

    /// Removes the outcome of an activity that is no longer wanted.
    pub(super) fn discard_outcome(&mut self, id: &ActivityId) {
        let is_outcome =
            |delivery: &Delivery| matches!(delivery, Delivery::Outcome(outcome) if outcome.activity == *id);
        self.inbox.remove_others(is_outcome);
    }

    /// Returns true if a turn should be made now. A new execution collects messages until its start has arrived.
    pub(super) fn is_ready(&self) -> bool {
        match self.state {
            LiveState::Idle(_) => !self.inbox.is_empty(),
            LiveState::Cold => self.inbox.start().is_some() || self.delayed_start_to_end().is_some(),
            LiveState::Loading | LiveState::Busy | LiveState::Committing => false,
        }
    }

    /// Returns the key of a start that is not due, if a request to end has arrived: the start need not be waited for.
    fn delayed_start_to_end(&self) -> Option<(Timestamp, MessageId)> {
        if !self.inbox.others().any(Delivery::may_be_end_request) {
            return None;
        }
        self.timers.iter().find(|(_, message)| message.lane == Lane::Start).map(|(key, _)| *key)
    }

    /// Takes the deliveries of the next turn.
    pub(in crate::node) fn take_inbox(&mut self, now: Timestamp) -> Inbox {
        self.fire_timers(now);
        if let Some(start) = self.delayed_start_to_end().and_then(|key| self.timers.remove(&key)) {
            self.inbox.push(Delivery::message(start));
        }
        self.drain_inbox()
    }

    /// Takes the deliveries that have arrived so far; timers stay.
    pub(super) fn drain_inbox(&mut self) -> Inbox {
        std::mem::take(&mut self.inbox)
    }
}
