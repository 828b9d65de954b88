//! Starts activities, and handles their ends.

use std::sync::Arc;

use semver::Version;

use super::Node;
use super::activities::{
    Activities, Attempt, AttemptDone, AttemptEnd, AttemptFacts, Kind, Permit, RunEnd, StartToClose, start_to_close,
};
use super::delivery::LocalOutcome;
use super::last_failures::out_of_time;
use super::log;
use super::measure::AttemptMeasure;
use super::outbox::Context;
use crate::backoff::jittered;
use crate::clock::Timestamp;
use crate::effect::{Claims, ScheduledActivity};
use crate::error::{Callee, ErrorCode, Suspension, shortened_to};
use crate::history::{ActivityScheduled, Failure, Input, Run};
use crate::id::{ActivityId, ExecutionId};
use crate::payload::Payload;
use crate::provider::{AcquiredActivity, FailedAttempt, Tenure, Write, error_value_text};
use crate::registry::Lookup;
use crate::replay::Failed;
use crate::telemetry::{self, names};

/// The policy for new work that this node keeps.
pub(super) struct NodeClaims<'a> {
    pub(super) lookup: &'a Lookup,
    pub(super) tags: Option<&'a [String]>,
    pub(super) activities: &'a mut Activities,
    /// True if the node accepts work.
    pub(super) open: bool,
    /// True if the node leaves instances to other members.
    pub(super) is_busy: bool,
}

impl Claims for NodeClaims<'_> {
    fn activity(&mut self, name: &str, tag: Option<&str>) -> bool {
        let Some(entry) = self.lookup.activity(name) else { return false };
        let served = tag.is_none_or(|tag| self.tags.is_none_or(|tags| tags.iter().any(|served| served == tag)));
        self.open && served && self.activities.try_take_permit(Kind::of(&entry.code))
    }

    fn release(&mut self, name: &str) {
        if let Some(entry) = self.lookup.activity(name) {
            self.activities.release_permit(Kind::of(&entry.code));
        }
    }

    fn orchestration(&self, name: &str, version: Option<&Version>) -> bool {
        self.open && !self.is_busy && self.lookup.orchestration(name, version).is_some()
    }
}

impl Node {
    /// Returns the policy for new work.
    pub(super) fn claims(&mut self) -> NodeClaims<'_> {
        let (open, is_busy) = (self.accepts_work(), self.is_busy());
        NodeClaims {
            lookup: &self.shared.lookup,
            tags: self.shared.tags.as_deref(),
            activities: &mut self.activities,
            open,
            is_busy,
        }
    }

    /// Runs an activity that the provider has returned.
    pub(super) fn take_activity(&mut self, acquired: AcquiredActivity) {
        log::claimed_activity(&acquired);
        let AcquiredActivity { id: activity, attempt, claim, suspect, scheduled, headers, .. } = acquired;
        let tenure = Tenure { activity, attempt, claim };
        if suspect {
            let message = "the process died each time this activity ran, the last time while it ran alone";
            return self.park(tenure, ErrorCode::CrashLoop, message);
        }
        if self.activities.runs(&tenure.activity) {
            return;
        }
        match Attempt::parse(scheduled, headers) {
            Ok(activity) => self.begin_attempt(tenure, activity, false),
            Err(error) => self.park(tenure, ErrorCode::UnreadableEvent, &error),
        }
    }

    /// Starts the first attempt of an activity that a turn of this node has scheduled, with a permit.
    pub(super) fn start_eager_activity(&mut self, execution: &ExecutionId, activity: ScheduledActivity) {
        let id = ActivityId { execution: execution.clone(), call: activity.scheduled.call };
        self.begin_attempt(Tenure { activity: id, attempt: 1, claim: 0 }, activity, true);
    }

    fn begin_attempt(&mut self, tenure: Tenure, activity: ScheduledActivity, has_permit: bool) {
        let ScheduledActivity { scheduled, input, time, headers } = activity;
        let Some(entry) = self.shared.lookup.activity(&scheduled.name) else {
            return self.commit(Write::ReleaseActivity { tenure }, Context::Other);
        };
        if !has_permit {
            self.activities.take_permit(Kind::of(&entry.code));
        }
        let now = self.now;
        let age = now.since(time);
        let metrics = self.metrics.activity(&scheduled.name);
        metrics.attempts.increment(1);
        if tenure.attempt == 1 {
            metrics.queue.record(age.as_secs_f64());
        }
        let (code, name) = (entry.code.clone(), &entry.name);
        let deadline = scheduled.options.schedule_to_close.map(|limit| time + limit);
        // An eager first attempt begins at once, on the node that scheduled it: an outcome without a run says so.
        let run = || Run::begun(tenure.attempt, self.membership.lease.epoch, time, now);
        let origin = (!has_permit).then(run);
        // A blocking attempt waits for its thread, which may have to be started first, and ends itself.
        let limit = scheduled.options.start_to_close.filter(|_| !code.is_blocking());
        let facts = Arc::new(AttemptFacts { tenure, scheduled, deadline, began: now, origin, metrics });
        let limit = limit.map(|limit| StartToClose { facts: facts.clone(), limit, at: now + limit });
        let (run, cancel) = self.activities.begin(facts.tenure.activity.clone(), Kind::of(&code), name, limit);
        let attempt = Attempt { lease: self.membership.lease, facts, run, input, headers, age };
        let is_blocking = code.is_blocking();
        let attempt = self.attempts.run(attempt, code, cancel);
        match if is_blocking { Err(attempt) } else { self.pool.first_step(attempt) } {
            Ok(()) => self.attempts.first_step_begins(),
            Err(attempt) => self.attempts.spawn(attempt),
        }
    }

    /// Releases the permits of activities that were not started.
    pub(super) fn release_permits<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        names.for_each(|name| self.claims().release(name));
    }

    pub(super) fn attempt_ended(&mut self, done: AttemptDone) {
        let AttemptDone { facts, run, end, busy_thread } = done;
        let run_end = self.activities.end(&facts.tenure.activity, run, busy_thread.is_some());
        if let Some(thread) = busy_thread.filter(|_| !matches!(run_end, RunEnd::Unknown)) {
            self.attempts.wait_for_thread(run, thread);
        }
        // The permit is released on drop if there is no outcome; otherwise it is moved into the outcome.
        let RunEnd::Wanted(permit, duration) = run_end else { return };
        let metrics = facts.metrics.clone();
        match end {
            AttemptEnd::Completed(output) => {
                let measure = AttemptMeasure::new(metrics, None, duration);
                let input = Input::ActivityCompleted { call: facts.tenure.activity.call, run: facts.origin.clone() };
                self.outcome(facts.tenure.clone(), input, output, permit, measure);
            }
            AttemptEnd::Failed(failed, retryable) => {
                let measure = AttemptMeasure::new(metrics, Some(&failed.failure), duration);
                self.attempt_failed(&facts, failed, retryable, permit, measure);
            }
            AttemptEnd::Unreadable(error) => {
                self.park(facts.tenure.clone(), ErrorCode::UnreadableActivityInput, &error)
            }
            AttemptEnd::TimedOut | AttemptEnd::Abandoned => {}
        }
    }

    /// Ends the attempts whose limit has passed although their code has not stopped, and reports the code that still runs.
    pub(super) fn check_activities(&mut self) {
        let now = self.now;
        while let Some(overdue) = self.activities.pop_overdue(now) {
            let StartToClose { facts, limit, .. } = overdue;
            let failure = start_to_close(&facts.scheduled.name, limit, facts.tenure.attempt);
            let measure = AttemptMeasure::new(facts.metrics.clone(), Some(&failure), limit);
            self.attempt_failed(&facts, failure.into(), true, None, measure);
        }
        self.activities.report_stopping(self.shared.options.turn_warning, log::activity_does_not_stop);
    }

    /// Repeats an attempt that has failed, or delivers its failure.
    fn attempt_failed(
        &mut self,
        facts: &AttemptFacts,
        failed: Failed,
        retryable: bool,
        permit: Option<Permit>,
        measure: AttemptMeasure,
    ) {
        let AttemptFacts { ref tenure, ref scheduled, deadline, began, .. } = *facts;
        let (call, attempt) = (tenure.activity.call, tenure.attempt);
        let allowed = self.next_attempt(scheduled, attempt, retryable);
        let next = allowed.filter(|next| deadline.is_none_or(|deadline| *next < deadline));
        log::attempt_failed(tenure, &scheduled.name, &failed.failure, next);
        if let Some(visible_at) = next {
            let error = error_text(&failed);
            let cause = Some(self.causes().of_failure(&failed.failure, &failed.error));
            let failed_attempt = Box::new(FailedAttempt { began, ended: self.now, error });
            if let Some(deadline) = deadline {
                let activity = tenure.activity.clone();
                self.last_failures.keep(activity, attempt, failed, deadline, self.now);
            }
            // Now, and not when the commit is answered, since the clock may be set in the meantime.
            self.work.measure_pause(tenure.activity.clone(), visible_at);
            let write = Write::Retry { tenure: tenure.clone(), visible_at, failed: failed_attempt, cause };
            return self.commit(write, Context::Attempt(Some(measure)));
        }
        let failure = match allowed {
            // No attempt can begin before the deadline, so the call ends now, with the error of this one.
            Some(_) => out_of_time(scheduled, attempt, failed.failure),
            None => failed.failure,
        };
        let is_named = matches!(failure, Failure::Application | Failure::TimedOut { .. });
        let callee = || Box::new(Callee::Activity { name: scheduled.name.clone(), attempts: attempt });
        let callee = (!is_named).then(callee);
        let input = Input::ActivityFailed { call, failure, callee, run: facts.origin.clone() };
        self.outcome(tenure.clone(), input, failed.error, permit, measure);
    }

    /// Returns the time of the next attempt, if the policy allows one.
    fn next_attempt(&self, scheduled: &ActivityScheduled, attempt: u32, retryable: bool) -> Option<Timestamp> {
        let policy = scheduled.options.retry.as_ref().filter(|_| retryable)?;
        Some(self.now + jittered(policy.pause_after(attempt)?))
    }

    fn outcome(
        &mut self,
        tenure: Tenure,
        input: Input,
        payload: Payload,
        permit: Option<Permit>,
        measure: AttemptMeasure,
    ) {
        let measure = Some(measure);
        let Tenure { activity, attempt, claim } = tenure;
        self.last_failures.forget(&activity);
        self.deliver_outcome(Box::new(LocalOutcome { activity, attempt, claim, input, payload, permit, measure }));
    }

    /// Parks an activity that no node of this build can run.
    fn park(&mut self, tenure: Tenure, code: ErrorCode, message: &str) {
        let activity = &tenure.activity;
        let mut suspension = Suspension::new(code, format!("activity call {}: {message}", activity.call));
        suspension.build = Some(self.shared.info.build.clone());
        let suspension = suspension.shortened();
        log::suspended(&activity.execution.instance, "activity parked", &suspension);
        let reason = serde_json::to_string(&suspension).unwrap_or_default();
        let cause = Some(self.causes().of_suspension(code.as_str(), message));
        let parked = telemetry::counter(names::ACTIVITY_PARKED, &[("code", code.as_str())]);
        self.commit(Write::Park { tenure, reason, cause }, Context::Counted(parked));
    }
}

/// Returns the text of a failed attempt: the error of the activity, or the reason why it has none.
fn error_text(failed: &Failed) -> String {
    let Failed { failure, error, .. } = failed;
    let text = match failure {
        Failure::Application => error_value_text(error),
        failure => failure.to_string(),
    };
    shortened_to(FailedAttempt::MAX_ERROR, &text)
}
