//! Makes turns, and commits or suspends their instances.

use super::Node;
use super::command::PendingStart;
use super::delivery::Delivery;
use super::inbox::Inbox;
use super::live::{LiveInstance, Stopped, StoredTurn};
use super::log::{self, TurnFacts};
use super::measure::{MadeTurn, TurnMeasure};
use super::outbox::{Context, TurnContext};
use super::turn::{Loaded, Source, TurnDone, TurnJob, TurnRun};
use crate::effect::{self, Causes, TurnInfo};
use crate::error::ErrorCode;
use crate::id::{EventId, InstanceId};
use crate::provider::Write;
use crate::replay::{Execution, Fault};
use crate::telemetry::{self, names};

impl Node {
    /// Begins the turns of all instances that are ready.
    pub(super) fn start_turns(&mut self) {
        while let Some((instance, deliveries)) = self.live.pop_ready(self.now) {
            self.make_turn(&instance, None, deliveries);
        }
        self.pool.submit(self.turns.begin());
    }

    /// Makes a turn: of the live copy, of a loaded history, or of a new execution.
    pub(super) fn make_turn(&mut self, instance: &InstanceId, loaded: Option<Loaded>, mut deliveries: Inbox) {
        let now = self.now;
        let Some(live) = self.live.wake(instance) else { return };
        let Some(entry) = self.shared.lookup.orchestration(&live.name, live.version.as_ref()) else {
            // This node does not have the code; another node may have it.
            return self.release(instance);
        };
        let (execution, generation, name) = (live.execution.clone(), live.generation, entry.name.clone());
        self.last_failures.add_to(&execution, &mut deliveries);
        let new = || self.shared.new_execution(execution.clone(), generation, entry.function.clone());
        let source = match (live.begin_turn(), loaded) {
            (Some(live), _) => Source::Live(live),
            (None, Some(loaded)) => Source::Loaded(loaded),
            (None, None) => Source::Live(new()),
        };
        let (node, limits) = (self.shared.info.id, self.shared.options.limits);
        let (version, held, committed) = (entry.version.clone(), live.take_held(), live.committed);
        let run = TurnRun::new(execution, generation, version, deliveries, held, now);
        self.turns.push(TurnJob { name, source, limits, node, committed, run });
    }

    /// Handles a finished turn: commits it, or suspends the instance.
    pub(super) fn turn_done(&mut self, TurnDone { run, result }: TurnDone) {
        self.turns.turn_has_ended();
        let Some(live) = self.live.current(&run.execution.instance, run.generation) else {
            return self.store_outcomes(run.into_deliveries());
        };
        let (committed, is_created_by_its_turn) = (live.committed, live.is_created_by_its_turn());
        let fault = match result.and_then(|execution| self.check(execution, run.output.ended)) {
            Ok(execution) => return self.commit_turn(run, execution, committed),
            Err(fault) => fault,
        };
        let (execution, generation) = (run.execution.clone(), run.generation);
        self.store_outcomes(run.into_deliveries());
        if is_created_by_its_turn {
            // Its client stores the start; a later turn suspends the instance.
            let deliveries = self.live.remove(&execution.instance);
            return self.store_outcomes(deliveries);
        }
        self.suspend(Stopped { execution, committed, generation, fault });
    }

    /// Returns a turn that has succeeded, unless its instance is to be stopped.
    fn check(&self, execution: Box<Execution>, ended: bool) -> Result<Box<Execution>, Fault> {
        let limit = self.shared.options.limits.history;
        let length = execution.last_event().0;
        if length > limit && !ended {
            let message = format!(
                "the history has {length} events, the limit is {limit} (`RuntimeOptions::limits.history`): \
                 continue as new before it grows so long"
            );
            return Err(Fault::new(ErrorCode::HistoryTooLong, message));
        }
        match execution.fault().filter(|_| !ended) {
            Some(fault) => Err(fault),
            None => Ok(execution),
        }
    }

    /// Commits a turn, unless it has no effect.
    fn commit_turn(&mut self, run: Box<TurnRun>, execution: Box<Execution>, committed: EventId) {
        let TurnRun { execution: id, generation, version, undelivered, held, now, output, .. } = *run;
        let (duration, lateness, mut delivered_outcomes) = (run.duration, run.lateness, run.delivered_outcomes);
        let Some(started) = execution.started().filter(|_| !output.is_empty()) else {
            self.settle_later(&id.instance);
            let follow_up = self.live.rest(&id.instance, execution);
            return self.follow_up(follow_up);
        };
        let open = output.leftovers.open.iter().filter(|(_, op)| !op.is_detached());
        let open_calls = open.map(|(call, _)| *call).collect();
        // The outcomes are stored with this turn, so activities that it schedules may have their permits.
        delivered_outcomes.iter_mut().for_each(Delivery::release_permit);
        let info =
            TurnInfo { execution: &id, version: &version, committed, started: &started, now, causes: self.causes() };
        let facts = TurnFacts::of(committed, &started, &version, &output);
        let metrics = self.metrics.orchestration(&started.name, &version);
        let measure = TurnMeasure::Made(MadeTurn::new(metrics, execution.began(), duration, lateness, &output));
        let (mut turn, eager) = effect::turn(&info, output, &mut self.claims());
        let created = self.live.current(&id.instance, generation).and_then(LiveInstance::begin_commit);
        let start_stored = created.map(|PendingStart { new, stored }| {
            turn.consumed.retain(|message| *message != new.start.id);
            turn.creates = Some(new);
            stored
        });
        let after = StoredTurn { generation, copy: Some((execution, version)), undelivered, held };
        let context = TurnContext { after, start_stored, eager, delivered_outcomes, open_calls, facts, measure };
        self.commit(Write::Turn(Box::new(turn)), Context::Turn(Box::new(context)));
    }

    /// Returns the part of failures that is recorded as their cause.
    pub(super) fn causes(&self) -> Causes {
        if self.shared.options.cause_messages { Causes::Messages } else { Causes::Kinds }
    }

    /// Suspends an instance, with the fault as the reason.
    pub(super) fn suspend(&mut self, stopped: Stopped) {
        let Stopped { execution, committed, generation, fault } = stopped;
        let mut suspension = *fault.0;
        suspension.build = Some(self.shared.info.build.clone());
        let suspension = suspension.shortened();
        log::suspended(&execution.instance, "instance suspended, or left to nodes of another build", &suspension);
        let live = self.live.current(&execution.instance, generation).map(|live| {
            live.begin_commit();
            &*live
        });
        let name = live.map_or(telemetry::OTHER, |live| &live.name);
        let labels = [("name", name), ("code", suspension.code.as_str())];
        let suspensions = telemetry::counter(names::ORCHESTRATION_SUSPENSIONS, &labels);
        let reason = serde_json::to_string(&suspension).unwrap_or_default();
        let cause = self.causes().of_suspension(suspension.code.as_str(), &suspension.message);
        let turn = effect::suspension(&execution, committed, (reason, cause), self.now);
        let context = TurnContext::suspension(generation, suspensions);
        self.commit(Write::Turn(Box::new(turn)), Context::Turn(Box::new(context)));
    }

    /// Reports turns that have been running for a long time.
    pub(super) fn report_stuck_turns(&mut self) {
        let (stuck, next) = self.pool.stuck(self.shared.options.turn_warning, self.now);
        if let Some(after) = next {
            self.time.check_turns(after);
        }
        if !stuck.is_empty() {
            // The report of the next renewal shows them, so it does not wait for its time.
            self.membership.check();
        }
        for turn in stuck {
            self.live.leave_start_to_client(&turn.instance);
            self.metrics.stuck_turns.increment(1);
            let seconds = turn.since.as_secs_f64();
            tracing::error!(
                instance = %turn.instance, orchestration = &*turn.name, place = turn.place, seconds,
                last_call = turn.last_call,
                code = %ErrorCode::TurnStuck,
                "a turn does not return: its code computes for a long time, or loops; other instances continue",
            );
        }
    }
}
