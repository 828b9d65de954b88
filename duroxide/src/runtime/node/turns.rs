//! Live instances and their turns.

use super::commits::{Context, TurnContext};
use super::{Birth, Node};
use crate::error::ErrorCode;
use crate::id::{EventId, ExecutionId, Identity, InstanceId};
use crate::provider::{AcquiredInstance, MessageRow, NewInstance, Submitted, Write};
use crate::replay::{Execution, Fault};
use crate::runtime::slot::{Delivery, LocalOutcome, Slot, SlotState};
use crate::runtime::turn::{Loaded, Source, TurnDone, TurnJob, TurnOutput};
use crate::runtime::turn_commit::{self, TurnInfo};

impl Node {
    /// Makes an instance live that was created for this node. `number` is that of its start; `None`: the start has a
    /// time of its own, or it was stored before and the instance may have advanced.
    pub(super) fn create(&mut self, new: NewInstance, number: Option<u64>) {
        if self.rejoining {
            return;
        }
        let execution = new.first_execution();
        if let Some(slot) = self.slots.get_mut(&new.instance) {
            if slot.execution.identity == execution.identity {
                // The client has stored the start, unless the first turn had created the instance before.
                number.into_iter().for_each(|number| slot.start_is_stored(number));
                slot.birth = None;
            } else {
                self.reload(&new.instance);
            }
            return;
        }
        match (new.start.visible_at, number) {
            (Some(due), _) => self.timers.add(&new.instance, due),
            (None, None) => self.acquiring.load(new.instance),
            (None, Some(number)) => {
                let mut slot = Slot::new(self.next_generation(), execution, new.name, new.version);
                slot.receive(number, new.start, self.now());
                self.insert(slot);
            }
        }
    }

    /// Drops a live copy that differs from the stored instance, and loads the instance. A turn in flight ends first.
    fn reload(&mut self, instance: &InstanceId) {
        let Some(slot) = self.slots.get_mut(instance) else { return };
        if matches!(slot.state, SlotState::Busy) {
            slot.is_stale = true;
        } else {
            self.drop_slot(instance);
            self.acquiring.load(instance.clone());
        }
    }

    /// Makes an instance live that the provider has returned, or updates its live copy: it was claimed, requested by
    /// name, or has mail.
    pub(super) fn take(&mut self, acquired: AcquiredInstance) {
        let (instance, now) = (acquired.execution.instance.clone(), self.now());
        if acquired.suspect {
            let fault = Fault::new(
                ErrorCode::CrashLoop,
                "the process died each time this instance ran, the last time while it ran alone",
            );
            return self.suspend(&acquired.execution, acquired.last_event, fault, 0);
        }
        match self.slots.get_mut(&instance) {
            Some(slot) if slot.is_other_than(&acquired) => return self.reload(&instance),
            Some(slot) => {
                slot.claim = acquired.claim;
                slot.receive_all(acquired.messages, acquired.arrivals, now);
            }
            None => {
                let (generation, mut acquired) = (self.next_generation(), acquired);
                let history = std::mem::take(&mut acquired.history);
                let slot = Slot::acquired(generation, acquired, now);
                let has_history = matches!(slot.state, SlotState::Loading);
                self.slots.insert(instance.clone(), slot);
                if has_history {
                    self.load(&instance, history);
                }
            }
        }
        self.set_instance_timer(&instance);
        self.ready.push_back(instance);
    }

    /// Sets the timer of an instance to the next one of its live copy.
    pub(super) fn set_instance_timer(&mut self, instance: &InstanceId) {
        if let Some(slot) = self.slots.get(instance) {
            self.timers.set(instance, slot.next_timer());
        }
    }

    /// Delivers the timers that are due. Requests work if the provider has work that is due.
    pub(super) fn fire_timers(&mut self) {
        let now = self.now();
        while let Some(instance) = self.timers.pop_due(now) {
            match self.slots.get_mut(&instance) {
                Some(slot) => {
                    slot.fire_timers(now);
                    self.set_instance_timer(&instance);
                    self.ready.push_back(instance);
                }
                None => self.acquiring.load(instance),
            }
        }
        self.acquiring.wanted |= self.acquiring.next_due.is_some_and(|due| due <= now);
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        let instance = slot.execution.instance.clone();
        self.slots.insert(instance.clone(), slot);
        self.ready.push_back(instance);
    }

    /// Delivers a message that a client of this process has forwarded.
    pub(super) fn forwarded(&mut self, instance: InstanceId, message: MessageRow, submitted: &Submitted) {
        // A message without a number was stored by an earlier request and has left mail.
        if let (Some(identity), Some(number)) = (submitted.identity, submitted.number) {
            self.deliver_message(instance, identity, number, message);
        }
    }

    /// Delivers a stored message to the live copy of its instance. If there is no live copy, or messages before this
    /// one are missing, requests the instance from the provider.
    pub(super) fn deliver_message(&mut self, to: InstanceId, identity: Identity, number: u64, message: MessageRow) {
        let now = self.now();
        match self.slots.get_mut(&to) {
            Some(slot) if slot.execution.identity == identity => {
                if !slot.receive(number, message, now) {
                    self.acquiring.fill_gap(to.clone());
                }
                self.ready.push_back(to);
            }
            Some(_) => self.reload(&to),
            None => self.acquiring.load(to),
        }
    }

    /// Delivers the outcome of an activity to the live copy that waits for it, or stores it.
    pub(super) fn deliver_outcome(&mut self, outcome: LocalOutcome) {
        let now = self.now();
        let execution = &outcome.activity.execution;
        match self.slots.get_mut(&execution.instance).filter(|slot| slot.execution == *execution) {
            Some(slot) => {
                let instance = execution.instance.clone();
                slot.deliver(Delivery::Outcome(outcome), now);
                self.ready.push_back(instance);
            }
            None => self.store_outcome(outcome),
        }
    }

    /// Begins the turns of all slots that are ready.
    pub(super) fn start_turns(&mut self) {
        while let Some(instance) = self.ready.pop_front() {
            let Some(slot) = self.slots.get_mut(&instance) else { continue };
            if !slot.is_ready() {
                continue;
            }
            let deliveries = slot.take_inbox(self.shared.clock.now());
            self.make_turn(&instance, None, deliveries);
        }
        self.turns += self.jobs.len();
        self.pool.submit(&mut self.jobs);
    }

    /// Makes a turn: of the live copy, of a loaded history, or of a new execution.
    pub(super) fn make_turn(&mut self, instance: &InstanceId, loaded: Option<Loaded>, deliveries: Vec<Delivery>) {
        let now = self.now();
        let Some(slot) = self.slots.get_mut(instance) else { return };
        self.idle.remove(&slot.used);
        let Some(entry) = self.shared.lookup.orchestration(&slot.name, slot.version.as_ref()) else {
            // This node does not have the code; another node may have it.
            return self.release(instance);
        };
        let (execution, generation, name) = (slot.execution.clone(), slot.generation, slot.name.clone());
        let source = match (std::mem::replace(&mut slot.state, SlotState::Busy), loaded) {
            (SlotState::Idle(live), _) => Source::Live(live),
            (_, Some(loaded)) => Source::Loaded(loaded),
            (_, None) => Source::Live(self.new_execution(execution.clone(), generation, entry.function.clone())),
        };
        let (version, limits) = (entry.version.clone(), self.shared.options.limits);
        self.jobs.push(TurnJob { execution, generation, name, version, source, deliveries, limits, now });
    }

    /// Handles a finished turn: commits it, or suspends the instance.
    pub(super) fn turn_done(&mut self, done: TurnDone) {
        self.turns = self.turns.saturating_sub(1);
        let instance = &done.execution.instance;
        let current = self.slots.get(instance).filter(|slot| slot.generation == done.generation);
        let Some(slot) = current else {
            return self.store_outcomes(done.delivered_outcomes.into_iter().chain(done.undelivered));
        };
        let committed = slot.committed;
        let fault = match done.result {
            Ok((execution, output)) => match self.fault_of(&execution, &output) {
                None => {
                    let undelivered = done.undelivered;
                    return self.commit_turn(
                        done.generation,
                        done.version,
                        committed,
                        execution,
                        output,
                        done.delivered_outcomes,
                        undelivered,
                        done.now,
                    );
                }
                Some(fault) => fault,
            },
            Err(fault) => fault,
        };
        let creates = slot.birth.is_some();
        self.store_outcomes(done.delivered_outcomes.into_iter().chain(done.undelivered));
        if creates {
            // Its client stores the start; a later turn suspends the instance.
            return self.drop_slot(&done.execution.instance);
        }
        self.suspend(&done.execution, committed, fault, done.generation);
    }

    /// Returns the fault that stops an instance although its turn has succeeded.
    fn fault_of(&self, execution: &Execution, output: &TurnOutput) -> Option<Fault> {
        let limit = self.shared.options.limits.history;
        let length = execution.last_event().0;
        if length > limit && !output.ended {
            let message = format!(
                "the history has {length} events, the limit is {limit} (`RuntimeOptions::limits.history`): \
                 continue as new before it grows so long"
            );
            return Some(Fault::new(ErrorCode::HistoryTooLong, message));
        }
        if output.ended { None } else { execution.fault() }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a finished turn, taken apart once")]
    fn commit_turn(
        &mut self,
        generation: u64,
        version: semver::Version,
        committed: EventId,
        execution: Box<Execution>,
        output: TurnOutput,
        mut delivered_outcomes: Vec<Delivery>,
        undelivered: Vec<Delivery>,
        now: crate::clock::Timestamp,
    ) {
        let id = execution.id().clone();
        let Some(started) = execution.started().filter(|_| !output.is_empty()) else {
            self.settle_later(&id.instance);
            return self.rest(&id.instance, execution);
        };
        let open = output.remains.open.iter().filter(|(_, op)| !op.is_detached());
        let cancelled = open.map(|(call, _)| *call).collect();
        // The outcomes are stored with this turn, so activities that it schedules may have their places.
        delivered_outcomes.iter_mut().for_each(Delivery::release_place);
        let info = TurnInfo { execution: &id, version: &version, committed, started: &started, now };
        let mut turn = turn_commit::turn(&info, output, &mut self.claims());
        let birth = self.slots.get_mut(&id.instance).and_then(|slot| slot.birth.take());
        let stored = birth.map(|Birth { new, stored }| {
            turn.consumed.retain(|message| *message != new.start.id);
            turn.creates = Some(new);
            stored
        });
        let context = TurnContext {
            generation,
            stored,
            execution: Some(execution),
            version: Some(version),
            delivered_outcomes,
            undelivered,
            ended: cancelled,
        };
        self.commit(Write::Turn(Box::new(turn)), Context::Turn(Box::new(context)));
    }

    /// Ends a turn: the instance waits, or is ready for the next turn if there are new deliveries.
    pub(super) fn rest(&mut self, instance: &InstanceId, execution: Box<Execution>) {
        self.last_tick += 1;
        let Some(slot) = self.slots.get_mut(instance) else { return };
        let (generation, stray) = (slot.generation, execution.fault().is_some());
        slot.state = SlotState::Idle(execution);
        slot.used = self.last_tick;
        self.idle.insert(slot.used, instance.clone());
        if stray {
            // The stray wake came while the commit was in flight.
            self.strayed(instance, generation);
        } else if slot.is_ready() {
            self.ready.push_back(instance.clone());
        }
    }

    /// Suspends an instance, with the fault as the reason.
    pub(super) fn suspend(&mut self, execution: &ExecutionId, committed: EventId, fault: Fault, generation: u64) {
        let mut suspension = *fault.0;
        suspension.build = Some(self.shared.info.build.clone());
        tracing::error!(instance = %execution.instance, code = %suspension.code, "instance suspended, or left to nodes of another build: {suspension}");
        let reason = serde_json::to_string(&suspension).unwrap_or_default();
        let turn = turn_commit::suspension(execution, committed, reason, self.now());
        let context = TurnContext {
            generation,
            stored: None,
            execution: None,
            version: None,
            delivered_outcomes: Vec::new(),
            undelivered: Vec::new(),
            ended: Vec::new(),
        };
        self.commit(Write::Turn(Box::new(turn)), Context::Turn(Box::new(context)));
    }

    /// Suspends an instance whose live copy was woken by something that is not durable.
    pub(super) fn strayed(&mut self, instance: &InstanceId, generation: u64) {
        let Some(slot) = self.slots.get_mut(instance).filter(|slot| slot.generation == generation) else { return };
        // During a turn, the fault is found at its end.
        let SlotState::Idle(execution) = &slot.state else { return };
        if let Some(fault) = execution.fault() {
            let (id, committed, used) = (slot.execution.clone(), slot.committed, slot.used);
            slot.state = SlotState::Busy;
            self.idle.remove(&used);
            self.suspend(&id, committed, fault, generation);
        }
    }

    /// Drops a slot. Outcomes in its inbox, which are not stored yet, are stored now.
    pub(super) fn drop_slot(&mut self, instance: &InstanceId) {
        if let Some(mut slot) = self.slots.remove(instance) {
            self.idle.remove(&slot.used);
            self.store_outcomes(slot.drain_inbox());
        }
    }

    /// Drops the live copy of an instance that was ended or removed from outside, and requests work at once, since the answer
    /// brings the cancellations of its activities.
    pub(super) fn ended(&mut self, instance: InstanceId) {
        if self.slots.contains_key(&instance) {
            self.drop_slot(&instance);
            // Another instance may have taken the id in the meantime.
            self.acquiring.load(instance);
        }
        self.acquiring.wanted = true;
    }

    /// Releases an instance whose code this node does not have.
    pub(super) fn release(&mut self, instance: &InstanceId) {
        let Some(slot) = self.slots.get(instance) else { return };
        let (execution, claim) = (slot.execution.clone(), slot.claim);
        self.drop_slot(instance);
        self.timers.set(instance, None);
        self.commit(Write::ReleaseInstance { execution, claim }, Context::Other);
    }

    /// Stores the outcomes among these deliveries. Messages are stored already.
    pub(super) fn store_outcomes(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        for delivery in deliveries {
            if let Delivery::Outcome(outcome) = delivery {
                self.store_outcome(outcome);
            }
        }
    }

    /// Drops the live copies that have been idle for longest, while there are too many.
    pub(super) fn evict(&mut self) {
        while self.idle.len() > self.shared.options.max_idle_instances {
            let Some((_, instance)) = self.idle.pop_first() else { return };
            let idle = self.slots.get(&instance).is_some_and(|slot| matches!(slot.state, SlotState::Idle(_)));
            if idle {
                self.drop_slot(&instance);
            }
        }
    }

    /// Reports turns that have been running for long.
    pub(super) fn report_stuck_turns(&mut self) {
        let (stuck, next) = self.pool.stuck(self.shared.options.turn_warning);
        if let Some(after) = next {
            self.watch_turns(after);
        }
        for turn in stuck {
            if let Some(slot) = self.slots.get_mut(&turn.instance) {
                // Its client must not wait for this turn: it stores the start.
                slot.birth = None;
            }
            let seconds = turn.since.as_secs_f64();
            tracing::error!(
                instance = %turn.instance, orchestration = turn.name, seconds, last_call = turn.place,
                code = %ErrorCode::TurnStuck,
                "a turn does not return: its code computes for long, or loops; other instances continue",
            );
        }
    }

    /// Returns the policy for new work.
    fn claims(&mut self) -> super::attempts::NodeClaims<'_> {
        super::attempts::NodeClaims {
            lookup: &self.shared.lookup,
            tags: self.shared.tags.as_deref(),
            limits: [self.shared.options.max_activities, self.shared.options.max_blocking_activities],
            places: &self.places,
            open: self.draining.is_none() && !self.rejoining,
        }
    }
}
