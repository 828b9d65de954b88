//! Live instances and their turns.

use super::Node;
use super::command::PendingStart;
use super::commits::{Context, TurnContext};
use crate::effect::{self, TurnInfo, TurnOutput};
use crate::error::ErrorCode;
use crate::id::{EventId, ExecutionId, Identity, InstanceId};
use crate::node::live::{Delivery, LiveInstance, LiveState, LocalOutcome};
use crate::node::turn::{Loaded, Source, TurnDone, TurnJob};
use crate::provider::{AcquiredInstance, MessageRow, NewInstance, Submitted, Write};
use crate::replay::{Execution, Fault};

impl Node {
    /// Makes an instance live that was created for this node. `number` is that of its start; `None`: the start has a
    /// time of its own, or it was stored before and the instance may have advanced.
    pub(super) fn create(&mut self, new: NewInstance, number: Option<u64>) {
        if self.rejoining {
            return;
        }
        let execution = new.first_execution();
        if let Some(live) = self.instances.get_mut(&new.instance) {
            if live.execution.identity == execution.identity {
                // The client has stored the start, unless the first turn had created the instance before.
                number.into_iter().for_each(|number| live.start_is_stored(number));
                live.eager_start = None;
            } else {
                self.reload(&new.instance);
            }
            return;
        }
        match (new.start.visible_at, number) {
            (Some(due), _) => self.timers.add(&new.instance, due),
            (None, None) => self.work.load(new.instance),
            (None, Some(number)) => {
                let mut live = LiveInstance::new(self.next_generation(), execution, new.name, new.version);
                live.receive(number, new.start, self.now());
                self.insert(live);
            }
        }
    }

    /// Drops a live copy that differs from the stored instance, and loads the instance. A turn in flight ends first.
    fn reload(&mut self, instance: &InstanceId) {
        let Some(live) = self.instances.get_mut(instance) else { return };
        if matches!(live.state, LiveState::Busy) {
            live.is_stale = true;
        } else {
            self.drop_live(instance);
            self.work.load(instance.clone());
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
        match self.instances.get_mut(&instance) {
            Some(live) if live.is_other_than(&acquired) => return self.reload(&instance),
            Some(live) => {
                live.claim = acquired.claim;
                live.receive_all(acquired.messages, acquired.arrivals, now);
            }
            None => {
                let (generation, mut acquired) = (self.next_generation(), acquired);
                let history = std::mem::take(&mut acquired.history);
                let live = LiveInstance::acquired(generation, acquired, now);
                let has_history = matches!(live.state, LiveState::Loading);
                self.instances.insert(instance.clone(), live);
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
        if let Some(live) = self.instances.get(instance) {
            self.timers.set(instance, live.next_timer());
        }
    }

    /// Delivers the timers that are due. Requests work if the provider has work that is due.
    pub(super) fn fire_timers(&mut self) {
        let now = self.now();
        while let Some(instance) = self.timers.pop_due(now) {
            match self.instances.get_mut(&instance) {
                Some(live) => {
                    live.fire_timers(now);
                    self.set_instance_timer(&instance);
                    self.ready.push_back(instance);
                }
                None => self.work.load(instance),
            }
        }
        self.work.request_if_due(now);
    }

    pub(super) fn insert(&mut self, live: LiveInstance) {
        let instance = live.execution.instance.clone();
        self.instances.insert(instance.clone(), live);
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
        match self.instances.get_mut(&to) {
            Some(live) if live.execution.identity == identity => {
                if !live.receive(number, message, now) {
                    self.work.fill_gap(to.clone());
                }
                self.ready.push_back(to);
            }
            Some(_) => self.reload(&to),
            None => self.work.load(to),
        }
    }

    /// Delivers the outcome of an activity to the live copy that waits for it, or stores it.
    pub(super) fn deliver_outcome(&mut self, outcome: LocalOutcome) {
        let now = self.now();
        let execution = &outcome.activity.execution;
        match self.instances.get_mut(&execution.instance).filter(|live| live.execution == *execution) {
            Some(live) => {
                let instance = execution.instance.clone();
                live.deliver(Delivery::Outcome(outcome), now);
                self.ready.push_back(instance);
            }
            None => self.store_outcome(outcome),
        }
    }

    /// Begins the turns of all instances that are ready.
    pub(super) fn start_turns(&mut self) {
        while let Some(instance) = self.ready.pop_front() {
            let Some(live) = self.instances.get_mut(&instance) else { continue };
            if !live.is_ready() {
                continue;
            }
            let deliveries = live.take_inbox(self.shared.clock.now());
            self.make_turn(&instance, None, deliveries);
        }
        self.turns += self.jobs.len();
        self.pool.submit(&mut self.jobs);
    }

    /// Makes a turn: of the live copy, of a loaded history, or of a new execution.
    pub(super) fn make_turn(&mut self, instance: &InstanceId, loaded: Option<Loaded>, deliveries: Vec<Delivery>) {
        let now = self.now();
        let Some(live) = self.instances.get_mut(instance) else { return };
        self.idle.remove(&live.used);
        let Some(entry) = self.shared.lookup.orchestration(&live.name, live.version.as_ref()) else {
            // This node does not have the code; another node may have it.
            return self.release(instance);
        };
        let (execution, generation, name) = (live.execution.clone(), live.generation, live.name.clone());
        let source = match (std::mem::replace(&mut live.state, LiveState::Busy), loaded) {
            (LiveState::Idle(live), _) => Source::Live(live),
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
        let current = self.instances.get(instance).filter(|live| live.generation == done.generation);
        let Some(live) = current else {
            return self.store_outcomes(done.delivered_outcomes.into_iter().chain(done.undelivered));
        };
        let committed = live.committed;
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
        let creates = live.eager_start.is_some();
        self.store_outcomes(done.delivered_outcomes.into_iter().chain(done.undelivered));
        if creates {
            // Its client stores the start; a later turn suspends the instance.
            return self.drop_live(&done.execution.instance);
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
        // The outcomes are stored with this turn, so activities that it schedules may have their permits.
        delivered_outcomes.iter_mut().for_each(Delivery::release_permit);
        let info = TurnInfo { execution: &id, version: &version, committed, started: &started, now };
        let mut turn = effect::turn(&info, output, &mut self.claims());
        let eager_start = self.instances.get_mut(&id.instance).and_then(|live| live.eager_start.take());
        let stored = eager_start.map(|PendingStart { new, stored }| {
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
        let Some(live) = self.instances.get_mut(instance) else { return };
        let (generation, stray) = (live.generation, execution.fault().is_some());
        live.state = LiveState::Idle(execution);
        live.used = self.last_tick;
        self.idle.insert(live.used, instance.clone());
        if stray {
            // The stray wake came while the commit was in flight.
            self.strayed(instance, generation);
        } else if live.is_ready() {
            self.ready.push_back(instance.clone());
        }
    }

    /// Suspends an instance, with the fault as the reason.
    pub(super) fn suspend(&mut self, execution: &ExecutionId, committed: EventId, fault: Fault, generation: u64) {
        let mut suspension = *fault.0;
        suspension.build = Some(self.shared.info.build.clone());
        tracing::error!(instance = %execution.instance, code = %suspension.code, "instance suspended: {suspension}");
        let reason = serde_json::to_string(&suspension).unwrap_or_default();
        let turn = effect::suspension(execution, committed, reason, self.now());
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
        let Some(live) = self.instances.get_mut(instance).filter(|live| live.generation == generation) else { return };
        // During a turn, the fault is found at its end.
        let LiveState::Idle(execution) = &live.state else { return };
        if let Some(fault) = execution.fault() {
            let (id, committed, used) = (live.execution.clone(), live.committed, live.used);
            live.state = LiveState::Busy;
            self.idle.remove(&used);
            self.suspend(&id, committed, fault, generation);
        }
    }

    /// Drops a live. Outcomes in its inbox, which are not stored yet, are stored now.
    pub(super) fn drop_live(&mut self, instance: &InstanceId) {
        if let Some(mut live) = self.instances.remove(instance) {
            self.idle.remove(&live.used);
            self.store_outcomes(live.drain_inbox());
        }
    }

    /// Drops the live copy of an instance that was ended or removed from outside, and requests work at once, since the answer
    /// brings the cancellations of its activities.
    pub(super) fn ended(&mut self, instance: InstanceId) {
        if self.instances.contains_key(&instance) {
            self.drop_live(&instance);
            // Another instance may have taken the id in the meantime.
            self.work.load(instance);
        }
        self.work.request();
    }

    /// Releases an instance whose code this node does not have.
    pub(super) fn release(&mut self, instance: &InstanceId) {
        let Some(live) = self.instances.get(instance) else { return };
        let (execution, claim) = (live.execution.clone(), live.claim);
        self.drop_live(instance);
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
            let idle = self.instances.get(&instance).is_some_and(|live| matches!(live.state, LiveState::Idle(_)));
            if idle {
                self.drop_live(&instance);
            }
        }
    }

    /// Reports turns that have been running for long.
    pub(super) fn report_stuck_turns(&mut self) {
        let (stuck, next) = self.pool.stuck(self.shared.options.turn_warning);
        if let Some(after) = next {
            self.time.check_turns(after);
        }
        for turn in stuck {
            if let Some(live) = self.instances.get_mut(&turn.instance) {
                // Its client must not wait for this turn: it stores the start.
                live.eager_start = None;
            }
            let seconds = turn.since.as_secs_f64();
            tracing::error!(
                instance = %turn.instance, orchestration = turn.name, seconds, last_call = turn.place,
                code = %ErrorCode::TurnStuck,
                "a turn does not return: its code computes for long, or loops; other instances continue",
            );
        }
    }
}
