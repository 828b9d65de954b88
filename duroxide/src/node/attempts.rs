//! Running activities: the choice of those that this node runs, and the handling of their results.

use futures_util::FutureExt;
use semver::Version;

use super::Node;
use super::commits::Context;
use crate::activity::{ActivityCode, CancelSignal};
use crate::effect::Claims;
use crate::error::{ErrorCode, Suspension};
use crate::history::{ActivityScheduled, Input, TextMap};
use crate::id::ActivityId;
use crate::node::activities::{ActivityPermits, Kind, Permit};
use crate::node::activities::{Attempt, AttemptDone, AttemptEnd, BusyThread};
use crate::node::live::LocalOutcome;
use crate::provider::{AcquiredActivity, EventRow, Tenure, Write};
use crate::registry::Lookup;

/// An activity that runs on this node.
pub(super) struct Running {
    /// Distinguishes this run from others of the same activity and attempt: one may still be ending when the next
    /// begins.
    run: u64,
    cancel: CancelSignal,
    kind: Kind,
}

/// Decides which new work this node claims for itself.
pub(super) struct NodeClaims<'a> {
    pub(super) lookup: &'a Lookup,
    pub(super) tags: Option<&'a [String]>,
    pub(super) limits: [usize; 2],
    pub(super) permits: &'a ActivityPermits,
    pub(super) open: bool,
}

impl Claims for NodeClaims<'_> {
    fn activity(&mut self, name: &str, tag: Option<&str>) -> bool {
        let Some(entry) = self.lookup.activity(name) else { return false };
        let served = tag.is_none_or(|tag| self.tags.is_none_or(|tags| tags.iter().any(|served| served == tag)));
        let kind = kind(&entry.code);
        let free = self.open && served && self.permits.taken(kind) < self.limits[kind];
        if free {
            self.permits.take(kind);
        }
        free
    }

    fn release(&mut self, name: &str) {
        if let Some(entry) = self.lookup.activity(name) {
            self.permits.free(kind(&entry.code));
        }
    }

    fn orchestration(&self, name: &str, version: Option<&Version>) -> bool {
        self.open && self.lookup.orchestration(name, version).is_some()
    }
}

fn kind(code: &ActivityCode) -> Kind {
    match code {
        ActivityCode::Async(_) => 0,
        ActivityCode::Blocking(_) => 1,
    }
}

impl Node {
    /// Runs an activity that the provider has returned.
    pub(super) fn take_on_activity(&mut self, acquired: AcquiredActivity) {
        let AcquiredActivity { id: activity, attempt, claim, suspect, scheduled, headers, .. } = acquired;
        let tenure = Tenure { activity, attempt, claim };
        if suspect {
            let message = "the process died each time this activity ran, the last time while it ran alone";
            return self.park(tenure, ErrorCode::CrashLoop, message);
        }
        if self.running.contains_key(&tenure.activity) {
            return;
        }
        self.reserve(&scheduled);
        self.start_attempt(tenure, scheduled, headers);
    }

    fn reserve(&mut self, scheduled: &EventRow) {
        if let Ok((activity, _)) = Attempt::parse(scheduled.clone())
            && let Some(entry) = self.shared.lookup.activity(&activity.name)
        {
            self.permits.take(kind(&entry.code));
        }
    }

    /// Starts an attempt for which a permit is reserved.
    pub(super) fn start_attempt(&mut self, tenure: Tenure, scheduled: EventRow, headers: TextMap) {
        let (scheduled, input) = match Attempt::parse(scheduled) {
            Ok(parsed) => parsed,
            Err(error) => return self.park(tenure, ErrorCode::UnreadableEvent, &error),
        };
        let Some(entry) = self.shared.lookup.activity(&scheduled.name) else {
            return self.commit(Write::ReleaseActivity { tenure }, Context::Other);
        };
        let (code, cancel) = (entry.code.clone(), CancelSignal::new());
        let run = self.next_generation();
        let running = Running { run, cancel: cancel.clone(), kind: kind(&code) };
        self.running.insert(tenure.activity.clone(), running);
        let blocking = matches!(code, ActivityCode::Blocking(_));
        let attempt = Attempt { tenure, run, scheduled, input, headers }.run(code, self.around.clone(), cancel).boxed();
        match if blocking { Err(attempt) } else { self.pool.first_step(attempt) } {
            Ok(()) => self.stepping = true,
            Err(attempt) => drop(self.attempts.spawn(attempt)),
        }
    }

    /// Cancels an activity of this node whose outcome is no longer wanted. The outcome is discarded.
    pub(super) fn cancel_attempt(&mut self, id: &ActivityId) {
        if let Some(running) = self.running.remove(id) {
            running.cancel.cancel();
            // It keeps its permit until it has ended.
            self.stopping.insert(running.run, running.kind);
        }
    }

    /// Cancels all activities, since this node no longer owns them.
    pub(super) fn cancel_attempts(&mut self) {
        let mut all: Vec<_> = self.running.keys().cloned().collect();
        // A fixed order, so that a simulation repeats.
        all.sort_unstable();
        all.iter().for_each(|id| self.cancel_attempt(id));
    }

    /// Frees the permits of activities that were not started.
    pub(super) fn free<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        for name in names {
            if let Some(entry) = self.shared.lookup.activity(name) {
                self.permits.free(kind(&entry.code));
            }
        }
    }

    pub(super) fn attempt_ended(&mut self, done: AttemptDone) {
        let AttemptDone { tenure, run, scheduled, end, busy_thread } = done;
        if let Some(kind) = self.stopping.remove(&run) {
            return self.free_permit(run, kind, busy_thread);
        }
        let Some(running) = self.running.remove(&tenure.activity) else { return };
        // Freed on drop if there is no outcome; otherwise moved into the outcome.
        let permit = busy_thread.is_none().then(|| self.permits.guard(running.kind));
        if busy_thread.is_some() {
            self.free_permit(run, running.kind, busy_thread);
        }
        let call = tenure.activity.call;
        match end {
            AttemptEnd::Completed(output) => {
                self.outcome(tenure, Input::ActivityCompleted { call }, output, permit);
            }
            AttemptEnd::Failed(failed, retryable) => match self.next_attempt(&scheduled, tenure.attempt, retryable) {
                Some(visible_at) => {
                    self.commit(Write::Retry { tenure, visible_at }, Context::Other);
                }
                None => {
                    let input = Input::ActivityFailed { call, failure: failed.failure };
                    self.outcome(tenure, input, failed.error, permit);
                }
            },
            AttemptEnd::Unreadable(error) => self.park(tenure, ErrorCode::UnreadableActivityInput, &error),
            AttemptEnd::Abandoned => {}
        }
    }

    /// Frees the permit of a run, once its thread is free.
    fn free_permit(&mut self, run: u64, kind: Kind, busy_thread: Option<BusyThread>) {
        if let Some(thread) = busy_thread {
            self.stopping.insert(run, kind);
            self.lingering.push(Box::pin(thread.map(move |_| run)));
        } else {
            self.permits.free(kind);
        }
    }

    /// Frees the permit of a run that had ended before its thread was free.
    pub(super) fn thread_is_free(&mut self, run: u64) {
        if let Some(kind) = self.stopping.remove(&run) {
            self.free_permit(run, kind, None);
        }
    }

    /// Returns the time of the next attempt, if the policy allows one.
    fn next_attempt(
        &self,
        scheduled: &ActivityScheduled,
        attempt: u32,
        retryable: bool,
    ) -> Option<crate::clock::Timestamp> {
        let policy = scheduled.options.retry.as_ref().filter(|_| retryable)?;
        Some(self.now() + crate::backoff::jittered(policy.pause_after(attempt)?))
    }

    fn outcome(&mut self, tenure: Tenure, input: Input, payload: crate::payload::Payload, permit: Option<Permit>) {
        let Tenure { activity, attempt, claim } = tenure;
        self.deliver_outcome(LocalOutcome { activity, attempt, claim, input, payload, permit });
    }

    /// Parks an activity that no node of this build can run.
    fn park(&mut self, tenure: Tenure, code: ErrorCode, message: &str) {
        let activity = &tenure.activity;
        let mut suspension = Suspension::new(code, format!("activity call {}: {message}", activity.call));
        suspension.build = Some(self.shared.info.build.clone());
        tracing::error!(instance = %activity.execution.instance, %code, "activity parked: {suspension}");
        let reason = serde_json::to_string(&suspension).unwrap_or_default();
        self.commit(Write::Park { tenure, reason }, Context::Other);
    }
}

/// The kinds of permit of the runs that were cancelled or timed out and have not ended.
pub(super) type Stopping = std::collections::HashMap<u64, Kind>;
