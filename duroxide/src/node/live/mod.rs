//! The instances that are live on a node, and the deliveries for their next turns.

mod follow_up;
mod instance;
mod timers;

use std::collections::{BTreeMap, VecDeque};

pub(super) use follow_up::{FollowUp, Stopped, StoredTurn};
pub(super) use instance::LiveInstance;
use instance::LiveState;
use semver::Version;
use timers::{Timer, Timers};

use super::command::{LivenessWatcher, PendingStart};
use super::delivery::{Delivery, LocalOutcome};
use super::inbox::Inbox;
use crate::clock::Timestamp;
use crate::hash::HashMap;
use crate::id::{ActivityId, EventId, ExecutionId, Identity, InstanceId};
use crate::provider::{AcquiredInstance, MessageRow, NewInstance, Then, Turn};
use crate::replay::{Execution, Held};

/// The live instances.
#[derive(Default)]
pub(super) struct LiveInstances {
    by_id: HashMap<InstanceId, LiveInstance>,
    /// The next timer of each owned instance, including those that are not live.
    timers: Timers,
    /// Instances that may be ready for a turn.
    ready: VecDeque<InstanceId>,
    /// Instances that wait, by when they were used last: the first is dropped when there are too many.
    idle: BTreeMap<u64, InstanceId>,
    last_tick: u64,
    last_generation: u64,
}

impl LiveInstances {
    pub(super) fn get(&self, instance: &InstanceId) -> Option<&LiveInstance> {
        self.by_id.get(instance)
    }

    /// Returns the number of live copies.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn contains(&self, instance: &InstanceId) -> bool {
        self.by_id.contains_key(instance)
    }

    /// Returns the live copy of a generation, unless it was dropped.
    pub(super) fn current(&mut self, instance: &InstanceId, generation: u64) -> Option<&mut LiveInstance> {
        self.by_id.get_mut(instance).filter(|live| live.generation == generation)
    }

    /// Returns the execution of a live copy whose turn, or its commit, is in flight, and its last committed event.
    pub(super) fn in_flight(&self, instance: &InstanceId) -> Option<(&ExecutionId, EventId)> {
        let in_flight = self.by_id.get(instance).filter(|live| live.state.is_in_flight());
        in_flight.map(|live| (&live.execution, live.committed))
    }

    /// Returns the execution of a live copy whose history is being read or replayed, or whose turn or its commit is in
    /// flight.
    pub(super) fn under_way(&self, instance: &InstanceId) -> Option<&ExecutionId> {
        let is_under_way = |live: &&LiveInstance| live.state.is_in_flight() || matches!(live.state, LiveState::Loading);
        self.by_id.get(instance).filter(is_under_way).map(|live| &live.execution)
    }

    /// Returns the number of the last message that a live copy has received.
    pub(super) fn heard(&self, instance: &InstanceId) -> Option<u64> {
        self.by_id.get(instance).map(LiveInstance::heard)
    }

    /// Returns true if a live copy has a gap: it received a message but not all earlier ones.
    pub(super) fn has_gap(&self, instance: &InstanceId) -> bool {
        self.by_id.get(instance).is_some_and(LiveInstance::has_gap)
    }

    /// Returns the number of instances that may be ready for a turn.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns the number of the last turn of all instances.
    pub(super) fn last_use(&self) -> u64 {
        self.last_tick
    }

    /// Returns the instances that wait since this turn or an earlier one, the longest first.
    pub(super) fn idle_up_to(&self, last_use: u64) -> impl Iterator<Item = &InstanceId> {
        let waits = |instance: &&InstanceId| {
            let live = self.by_id.get(*instance);
            // The messages of held events would make a released instance ready at once.
            let is_idle = |live: &LiveInstance| matches!(&live.state, LiveState::Idle(copy) if !copy.holds_events());
            live.is_some_and(|live| is_idle(live) && !live.is_ready())
        };
        self.idle.range(..=last_use).map(|(_, instance)| instance).filter(waits)
    }

    /// Returns true if the live copy of an instance holds events.
    pub(super) fn holds_events(&self, instance: &InstanceId) -> bool {
        let live = self.by_id.get(instance).map(|live| &live.state);
        matches!(live, Some(LiveState::Idle(copy)) if copy.holds_events())
    }

    /// Returns when the next timer of all instances fires.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    fn next_generation(&mut self) -> u64 {
        self.last_generation += 1;
        self.last_generation
    }

    fn insert(&mut self, live: LiveInstance) {
        let instance = live.execution.instance.clone();
        self.by_id.insert(instance.clone(), live);
        self.ready.push_back(instance);
    }

    /// Sets the timer of an instance to the next one of its live copy.
    fn set_timer(&mut self, instance: &InstanceId) {
        if let Some(live) = self.by_id.get(instance) {
            self.timers.set(instance, live.next_timer());
        }
    }

    /// Makes an instance live whose first turn creates it. Drops the start, so that the client stores it, if the id is
    /// live here.
    pub(super) fn start(&mut self, start: PendingStart, now: Timestamp) {
        if self.contains(&start.new.instance) {
            return;
        }
        let (new, generation) = (&start.new, self.next_generation());
        let mut live = LiveInstance::new(generation, new.first_execution(), new.name.clone(), new.version.clone());
        live.deliver(Delivery::message(new.start.clone()), now);
        live.eager_start = Some(start);
        self.insert(live);
    }

    /// Makes an instance live that was created for this node. `number` is that of its start; `None`: the start has a
    /// time of its own, or it was stored before and the instance may have advanced.
    pub(super) fn create(&mut self, new: NewInstance, number: Option<u64>, now: Timestamp) -> FollowUp {
        let execution = new.first_execution();
        if let Some(live) = self.by_id.get_mut(&new.instance) {
            if live.execution.identity != execution.identity {
                return self.reload(&new.instance);
            }
            // The client has stored the start, unless the first turn had created the instance before.
            number.into_iter().for_each(|number| live.start_is_stored(number));
            live.eager_start = None;
            return FollowUp::Nothing;
        }
        match (new.start.visible_at, number) {
            (Some(due), _) => self.timers.add(&new.instance, due.into()),
            (None, None) => return FollowUp::load(new.instance),
            (None, Some(number)) => {
                let mut live = LiveInstance::new(self.next_generation(), execution, new.name, new.version);
                live.receive(number, new.start, now);
                self.insert(live);
            }
        }
        FollowUp::Nothing
    }

    /// Makes an instance live that the provider has returned, or updates its live copy: it was claimed, requested by
    /// name, or has mail.
    pub(super) fn acquired(&mut self, mut acquired: AcquiredInstance, now: Timestamp) -> FollowUp {
        let instance = acquired.execution.instance.clone();
        let mut follow_up = FollowUp::Nothing;
        match self.by_id.get_mut(&instance) {
            Some(live) if live.is_other_than(&acquired) => return self.reload(&instance),
            Some(live) => {
                live.claim = acquired.claim;
                live.receive_all(acquired.messages, acquired.arrivals, now);
            }
            None => {
                let history = std::mem::take(&mut acquired.history);
                let ahead = self.timers.ahead(&instance);
                let live = LiveInstance::acquired(self.next_generation(), acquired, ahead, now);
                if matches!(live.state, LiveState::Loading) {
                    follow_up = FollowUp::ReadHistory(instance.clone(), history);
                }
                self.by_id.insert(instance.clone(), live);
            }
        }
        self.set_timer(&instance);
        self.ready.push_back(instance);
        follow_up
    }

    /// Drops a live copy that differs from the stored instance, and loads the instance. A turn in flight ends first.
    fn reload(&mut self, instance: &InstanceId) -> FollowUp {
        let Some(live) = self.by_id.get_mut(instance) else { return FollowUp::Nothing };
        if live.state.is_in_flight() {
            live.mark_stale();
            return FollowUp::Nothing;
        }
        FollowUp::Load(instance.clone(), self.remove(instance))
    }

    /// Delivers a stored message to the live copy of its instance.
    pub(super) fn deliver_message(
        &mut self,
        to: InstanceId,
        identity: Identity,
        number: u64,
        message: MessageRow,
        now: Timestamp,
    ) -> FollowUp {
        match self.by_id.get_mut(&to) {
            Some(live) if live.execution.identity == identity => {
                let is_complete = live.receive(number, message, now);
                let follow_up = if is_complete { FollowUp::Nothing } else { FollowUp::FillGap(to.clone()) };
                self.ready.push_back(to);
                follow_up
            }
            Some(_) => self.reload(&to),
            None => FollowUp::load(to),
        }
    }

    /// Delivers the outcome of an activity to the live copy that waits for it. Returns the outcome if there is none.
    pub(super) fn deliver_outcome(&mut self, outcome: Box<LocalOutcome>, now: Timestamp) -> Option<Box<LocalOutcome>> {
        let execution = &outcome.activity.execution;
        match self.by_id.get_mut(&execution.instance).filter(|live| live.execution == *execution) {
            Some(live) => {
                self.ready.push_back(execution.instance.clone());
                live.deliver(Delivery::Outcome(outcome), now);
                None
            }
            None => Some(outcome),
        }
    }

    /// Removes the outcome of an activity that is no longer wanted.
    pub(super) fn discard_outcome(&mut self, activity: &ActivityId) {
        if let Some(live) = self.by_id.get_mut(&activity.execution.instance) {
            live.discard_outcome(activity);
        }
    }

    /// Delivers the timers of one instance that are due. Returns `None` if there are none.
    pub(super) fn fire_timer(&mut self, now: Timestamp) -> Option<FollowUp> {
        let instance = self.timers.pop_due(now)?;
        let Some(live) = self.by_id.get_mut(&instance) else { return Some(FollowUp::load(instance)) };
        live.fire_timers(now);
        self.set_timer(&instance);
        self.ready.push_back(instance);
        Some(FollowUp::Nothing)
    }

    /// Adds the timers that a stored turn has created to its instance. A live copy that was loaded after the turn was stored
    /// has received them with the instance; the copy of this generation has made the turn.
    pub(super) fn keep_timers(&mut self, turn: &Turn, generation: u64, now: Timestamp) {
        let own = &turn.execution.instance;
        let (last, time) = turn.events.last().map_or((turn.after, turn.time), |event| (event.id, event.time));
        let is_later = |live: &LiveInstance| live.generation != generation && live.committed >= last;
        if self.by_id.get(own).is_some_and(is_later) {
            return;
        }
        let timers =
            turn.messages.iter().filter_map(|out| Some((out, Timer::after(out.message.visible_at?, time, now))));
        let mut earliest: Option<Timer> = None;
        for (out, timer) in timers.filter(|(out, _)| out.to == *own) {
            earliest = Some(earliest.filter(|before| before.by < timer.by).unwrap_or(timer));
            let current = self.by_id.get_mut(own).filter(|live| out.message.execution == Some(live.execution.number));
            if let Some(live) = current {
                live.add_timer(timer, out.message.clone());
            }
        }
        match earliest {
            Some(timer) if !self.by_id.contains_key(own) => self.timers.add(own, timer),
            _ => self.set_timer(own),
        }
    }

    /// Moves all timers, since the clock was set by these microseconds.
    pub(super) fn clock_was_set(&mut self, step: i64) {
        self.by_id.values_mut().for_each(|live| live.clock_was_set(step));
        self.timers.clock_was_set(step);
    }

    /// Resolves a watcher once the instance is not live, or its copy is stale; at once if it is so.
    pub(super) fn watch(&mut self, instance: &InstanceId, watcher: LivenessWatcher) {
        // The watcher resolves when it is dropped.
        if let Some(live) = self.by_id.get_mut(instance).filter(|live| !live.is_stale) {
            live.watch(watcher);
        }
    }

    /// Takes the next instance that is ready for a turn, with its deliveries.
    pub(super) fn pop_ready(&mut self, now: Timestamp) -> Option<(InstanceId, Inbox)> {
        while let Some(instance) = self.ready.pop_front() {
            if let Some(live) = self.by_id.get_mut(&instance).filter(|live| live.is_ready()) {
                let deliveries = live.take_inbox(now);
                return Some((instance, deliveries));
            }
        }
        None
    }

    /// Returns an instance of which a turn is to be made, so that it is no longer idle.
    pub(super) fn wake(&mut self, instance: &InstanceId) -> Option<&mut LiveInstance> {
        let live = self.by_id.get_mut(instance)?;
        self.idle.remove(&live.used);
        Some(live)
    }

    /// Ends a turn: the instance waits, or is ready for the next turn if there are new deliveries. A stale copy is dropped, and
    /// the instance loaded.
    pub(super) fn rest(&mut self, instance: &InstanceId, execution: Box<Execution>) -> FollowUp {
        self.last_tick += 1;
        let Some(live) = self.by_id.get_mut(instance) else { return FollowUp::Nothing };
        if live.is_stale {
            return FollowUp::Load(instance.clone(), self.remove(instance));
        }
        let (generation, stray) = (live.generation, execution.fault().is_some());
        live.state = LiveState::Idle(execution);
        live.used = self.last_tick;
        self.idle.insert(live.used, instance.clone());
        if stray {
            // The stray wake came while the commit was in flight.
            return self.strayed(instance, generation);
        }
        if live.is_ready() {
            self.ready.push_back(instance.clone());
        }
        FollowUp::Nothing
    }

    /// Stops an instance whose live copy was woken by something that is not durable.
    pub(super) fn strayed(&mut self, instance: &InstanceId, generation: u64) -> FollowUp {
        let Some(live) = self.current(instance, generation) else { return FollowUp::Nothing };
        // During a turn, the fault is found at its end.
        let LiveState::Idle(copy) = &live.state else { return FollowUp::Nothing };
        let Some(fault) = copy.fault() else { return FollowUp::Nothing };
        let (execution, committed, used) = (live.execution.clone(), live.committed, live.used);
        live.state = LiveState::Busy;
        self.idle.remove(&used);
        FollowUp::Suspend(Stopped { execution, committed, generation, fault })
    }

    /// Advances the live copy by a turn that was stored.
    pub(super) fn turn_stored(&mut self, turn: &Turn, stored: StoredTurn) -> FollowUp {
        let own = &turn.execution.instance;
        let StoredTurn { generation, copy, undelivered, held } = stored;
        let Some(live) = self.current(own, generation) else {
            return FollowUp::StoreOutcomes(undelivered.into_outcomes());
        };
        let (execution, version) = copy.unzip();
        live.version = version;
        live.committed = turn.events.last().map_or(turn.after, |event| event.id);
        live.put_back(undelivered);
        turn.cancelled_messages.iter().for_each(|call| live.remove_timers(*call));
        match (&turn.then, execution) {
            _ if live.is_stale => FollowUp::Load(own.clone(), self.remove(own)),
            (Then::Continue, Some(execution)) => self.rest(own, execution),
            (Then::ContinueAsNew { version }, _) => self.begin_next_execution(&turn.execution, version.clone(), held),
            _ => FollowUp::StoreOutcomes(self.remove(own)),
        }
    }

    /// Replaces the live copy with one of the next execution, which inherits the held events and the messages in the inbox.
    fn begin_next_execution(&mut self, execution: &ExecutionId, version: Option<Version>, held: Held) -> FollowUp {
        let Some(mut old) = self.by_id.remove(&execution.instance) else { return FollowUp::Nothing };
        let name = std::mem::take(&mut old.name);
        let mut live = LiveInstance::new(self.next_generation(), execution.next(), name, version);
        let outcomes = live.continues(&mut old, held);
        self.insert(live);
        self.set_timer(&execution.instance);
        FollowUp::StoreOutcomes(outcomes)
    }

    /// Drops the live copy of an instance that was ended, paused, replaced or removed from outside, and loads the instance
    /// that has the id now. A turn that runs is dropped too, since it may never end. While a commit is in flight, the copy is
    /// stale instead: a node has at most one commit of an instance in flight.
    pub(super) fn ended(&mut self, instance: InstanceId) -> FollowUp {
        match self.by_id.get(&instance).map(|live| &live.state) {
            None => FollowUp::Nothing,
            Some(LiveState::Committing) => self.reload(&instance),
            Some(_) => {
                let deliveries = self.remove(&instance);
                FollowUp::Load(instance, deliveries)
            }
        }
    }

    /// Drops the live copy of an instance, if there is one. Returns the outcomes for its next turn, which are not stored.
    pub(super) fn remove(&mut self, instance: &InstanceId) -> Vec<Delivery> {
        let Some(mut live) = self.by_id.remove(instance) else { return Vec::new() };
        self.idle.remove(&live.used);
        live.drain_inbox().into_outcomes()
    }

    /// Drops an instance that this node releases, and its timers. Returns its execution, its claim, and the deliveries for
    /// its next turn.
    pub(super) fn release(&mut self, instance: &InstanceId) -> Option<(ExecutionId, u64, Vec<Delivery>)> {
        let live = self.by_id.get(instance)?;
        let (execution, claim) = (live.execution.clone(), live.claim);
        let deliveries = self.remove(instance);
        self.timers.set(instance, None);
        Some((execution, claim, deliveries))
    }

    /// Returns the instance whose live copy has been idle for longest, if there are more than `max`.
    pub(super) fn excess(&mut self, max: usize) -> Option<InstanceId> {
        while self.idle.len() > max {
            let (_, instance) = self.idle.pop_first()?;
            if self.by_id.get(&instance).is_some_and(|live| matches!(live.state, LiveState::Idle(_))) {
                return Some(instance);
            }
        }
        None
    }

    /// Lets the client of an instance store the start: it must not wait for a turn that takes long.
    pub(super) fn leave_start_to_client(&mut self, instance: &InstanceId) {
        if let Some(live) = self.by_id.get_mut(instance) {
            live.eager_start = None;
        }
    }

    /// Drops the live instances, since the lease is lost. Their outcomes are not stored: the next owner of the activities
    /// runs them again.
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.idle.clear();
        self.ready.clear();
    }

    /// Removes the timers of a lost lease.
    pub(super) fn clear_timers(&mut self) {
        self.timers = Timers::default();
    }

    /// Drops the functions of the live instances, since the node leaves.
    pub(super) fn drop_copies(&mut self) {
        self.by_id.values_mut().for_each(|live| live.state = LiveState::Cold);
    }
}

#[cfg(test)]
mod tests;
