//! The activities of a node: those that run, those that end without being wanted, and their permits.

mod attempt;
mod attempts;
mod blocking;
mod permits;
mod poll_watch;
mod stopping;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) use attempt::{Attempt, AttemptDone, AttemptEnd, AttemptEnv, AttemptFacts, start_to_close};
pub(super) use attempts::{Attempts, RunningAttempt};
use permits::ActivityPermits;
pub(super) use permits::{Kind, Permit};
pub(super) use poll_watch::PollView;
pub(super) use stopping::StoppingRun;
use stopping::{StopCause, Stopping};
use tokio::time::Instant;

use super::log;
use crate::activity::CancelSignal;
use crate::clock::Timestamp;
use crate::hash::{HashMap, HashSet};
use crate::id::{ActivityId, InstanceId};

/// The activities that this node runs, with their permits.
///
/// A permit is taken before an activity starts: when it is claimed, or when the turn that schedules it is committed. It
/// is released when its outcome is on its way to the storage, or when its thread is free, if that is later.
pub(super) struct Activities {
    running: HashMap<ActivityId, Running>,
    /// The ends of the start-to-close limits of runs, by time and run.
    limits: BTreeMap<(Instant, u64), StartToClose>,
    /// The runs that were cancelled or timed out and have not ended, or keep their threads.
    stopping: Stopping,
    permits: ActivityPermits,
    limit_of_kind: [usize; 2],
    last_run: u64,
}

struct Running {
    /// Distinguishes this run from others of the same activity and attempt: one may still be ending when the next
    /// begins.
    run: u64,
    cancel: CancelSignal,
    kind: Kind,
    /// The name of the activity.
    name: Arc<str>,
    /// The end of its start-to-close limit.
    limit: Option<Instant>,
    begun: Instant,
}

/// The start-to-close limit of a run, with the parts of the attempt that end it. An attempt that waits ends itself at the
/// limit; the node ends one whose code computes or blocks its thread.
pub(super) struct StartToClose {
    pub(super) facts: Arc<AttemptFacts>,
    pub(super) limit: Duration,
    /// The end of the limit by the clock of the node, which may be virtual.
    pub(super) at: Timestamp,
}

/// The end of a run.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// Its outcome is wanted, after this time. The permit is `None` if the thread of the run is still busy.
    Wanted(Option<Permit>, Duration),
    /// It was cancelled: its outcome is discarded.
    Cancelled,
    /// It was dropped by the end of the node.
    Unknown,
}

impl Activities {
    /// The time after a limit within which an attempt that waits ends itself, so that it is dropped without a signal.
    const OWN_END: Duration = Duration::from_millis(10);

    /// The limits are those of async and of blocking activities.
    pub(super) fn new(limits: [usize; 2]) -> Self {
        let permits = ActivityPermits::default();
        Self {
            running: HashMap::default(),
            limits: BTreeMap::new(),
            stopping: Stopping::default(),
            permits,
            limit_of_kind: limits,
            last_run: 0,
        }
    }

    /// Returns the number of activities that run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Returns the instances whose activities run.
    pub(super) fn instances(&self) -> HashSet<&InstanceId> {
        self.running.keys().map(|id| &id.execution.instance).collect()
    }

    pub(super) fn runs(&self, id: &ActivityId) -> bool {
        self.running.contains_key(id)
    }

    /// Returns the permits that are free.
    pub(super) fn free_permits(&self) -> [usize; 2] {
        Kind::ALL.map(|kind| self.limit_of_kind[kind as usize].saturating_sub(self.permits.taken(kind)))
    }

    /// Takes a permit, if one is free.
    pub(super) fn try_take_permit(&mut self, kind: Kind) -> bool {
        let is_free = self.permits.taken(kind) < self.limit_of_kind[kind as usize];
        if is_free {
            self.permits.take(kind);
        }
        is_free
    }

    /// Takes a permit for an activity that the provider has returned.
    pub(super) fn take_permit(&mut self, kind: Kind) {
        self.permits.take(kind);
    }

    /// Releases the permit of an activity that is not started.
    pub(super) fn release_permit(&mut self, kind: Kind) {
        self.permits.release(kind);
    }

    /// Returns true if a permit was released since the last call.
    pub(super) fn permits_were_released(&self) -> bool {
        self.permits.were_released()
    }

    /// Begins a run of an activity that has a permit. Returns its number and the signal that cancels it.
    pub(super) fn begin(
        &mut self,
        id: ActivityId,
        kind: Kind,
        name: &Arc<str>,
        limit: Option<StartToClose>,
    ) -> (u64, CancelSignal) {
        self.last_run += 1;
        let (run, cancel) = (self.last_run, CancelSignal::new());
        let begun = Instant::now();
        let ends = limit.as_ref().and_then(|limit| begun.checked_add(limit.limit.saturating_add(Self::OWN_END)));
        if let (Some(ends), Some(limit)) = (ends, limit) {
            self.limits.insert((ends, run), limit);
        }
        self.running.insert(id, Running { run, cancel: cancel.clone(), kind, name: name.clone(), limit: ends, begun });
        (run, cancel)
    }

    /// Removes a run and its limit.
    fn remove(&mut self, id: &ActivityId) -> Option<Running> {
        let running = self.running.remove(id)?;
        if let Some(ends) = running.limit {
            self.limits.remove(&(ends, running.run));
        }
        Some(running)
    }

    /// Takes a run whose limit has passed and that has not ended: its code has not reached an await since. The run is
    /// cancelled, and keeps its permit until its thread is free.
    pub(super) fn pop_overdue(&mut self, now: Timestamp) -> Option<StartToClose> {
        loop {
            let entry = self.limits.first_entry().filter(|entry| entry.key().0 <= Instant::now())?;
            let limit = entry.remove();
            // A virtual clock stands still while code runs, and the clock of the system may have been set back.
            if limit.at <= now {
                self.stop(&limit.facts.tenure.activity, StopCause::TimedOut);
                return Some(limit);
            }
        }
    }

    /// Cancels a run, which ends without an outcome.
    fn stop(&mut self, id: &ActivityId, cause: StopCause) {
        if let Some(Running { run, cancel, kind, name, .. }) = self.remove(id) {
            cancel.cancel();
            self.stopping.insert(run, kind, id.clone(), name, cause);
        }
    }

    /// Returns when [`pop_overdue`](Self::pop_overdue) or [`report_stopping`](Self::report_stopping) is to be called.
    pub(super) fn next_check(&self, report_after: Duration) -> Option<Instant> {
        let limit = self.limits.first_key_value().map(|((ends, _), _)| *ends);
        limit.into_iter().chain(self.stopping.next_report(report_after)).min()
    }

    /// Calls `report` once for each run that has not stopped for this time.
    pub(super) fn report_stopping(&mut self, after: Duration, report: impl FnMut(&StoppingRun)) {
        self.stopping.report(after, report);
    }

    /// Cancels an activity whose outcome is no longer wanted. It keeps its permit until it has ended.
    pub(super) fn cancel(&mut self, id: &ActivityId) {
        self.stop(id, StopCause::Cancelled);
    }

    /// Cancels all activities, since this node no longer owns them.
    pub(super) fn cancel_all(&mut self) {
        let mut all: Vec<_> = self.running.keys().cloned().collect();
        // A fixed order, so that a simulation repeats.
        all.sort_unstable();
        all.iter().for_each(|id| self.cancel(id));
    }

    /// Drops all activities, since the node ends.
    pub(super) fn clear(&mut self) {
        self.running.clear();
        self.limits.clear();
    }

    /// Ends a run. If its thread is still busy, the caller calls [`thread_is_free`](Self::thread_is_free) later, unless
    /// the run is unknown.
    pub(super) fn end(&mut self, id: &ActivityId, run: u64, thread_is_busy: bool) -> RunEnd {
        if self.stopping.contains(run) {
            if !thread_is_busy {
                self.thread_is_free(run);
            }
            return RunEnd::Cancelled;
        }
        let Some(running) = self.remove(id) else { return RunEnd::Unknown };
        let duration = running.begun.elapsed();
        if thread_is_busy {
            self.stopping.insert(run, running.kind, id.clone(), running.name, StopCause::TimedOut);
            return RunEnd::Wanted(None, duration);
        }
        RunEnd::Wanted(Some(self.permits.guard(running.kind)), duration)
    }

    /// Releases the permit of a run that was to stop before its thread was free.
    pub(super) fn thread_is_free(&mut self, run: u64) {
        if let Some(stopped) = self.stopping.remove(run) {
            self.permits.release(stopped.kind);
            log::activity_stopped(&stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallId, ExecutionId, Identity, InstanceId};

    fn id(call: u64) -> ActivityId {
        let instance = InstanceId::new("a").expect("valid");
        ActivityId { execution: ExecutionId { instance, identity: Identity::UNKNOWN, number: 1 }, call: CallId(call) }
    }

    /// Activities with one permit of each kind, and a run of a blocking one.
    fn running() -> (Activities, u64) {
        let mut activities = Activities::new([1, 1]);
        assert!(activities.try_take_permit(Kind::Blocking));
        assert!(!activities.try_take_permit(Kind::Blocking), "the limit");
        assert_eq!(activities.free_permits(), [1, 0]);
        let (run, _) = activities.begin(id(1), Kind::Blocking, &"a".into(), None);
        (activities, run)
    }

    #[test]
    fn permit_is_released_after_the_outcome_and_the_thread() {
        // Cancelled before the end, thread busy at the end; true if the outcome holds the permit.
        let cases = [(false, false, true), (false, true, false), (true, false, false), (true, true, false)];
        for (is_cancelled, thread_is_busy, outcome_holds) in cases {
            let (mut activities, run) = running();
            if is_cancelled {
                activities.cancel(&id(1));
            }
            let case = (is_cancelled, thread_is_busy);
            let permit = match activities.end(&id(1), run, thread_is_busy) {
                RunEnd::Wanted(permit, _) => permit,
                end => {
                    assert!(is_cancelled && matches!(end, RunEnd::Cancelled), "{case:?}");
                    None
                }
            };
            assert_eq!(permit.is_some(), outcome_holds, "{case:?}");
            let held = outcome_holds || thread_is_busy;
            assert_eq!(activities.permits_were_released(), !held, "{case:?}");
            drop(permit);
            activities.thread_is_free(run);
            assert_eq!((activities.free_permits(), activities.running()), ([1, 1], 0), "{case:?}");
            assert_eq!(activities.permits_were_released(), held, "{case:?}");
        }
    }

    #[test]
    fn end_of_a_cancelled_run_does_not_end_the_next_one() {
        let (mut activities, first) = running();
        activities.cancel(&id(1));
        let (second, signal) = activities.begin(id(1), Kind::Async, &"a".into(), None);
        assert!(matches!(activities.end(&id(1), first, false), RunEnd::Cancelled));
        assert!(activities.runs(&id(1)) && !signal.is_cancelled());
        assert!(matches!(activities.end(&id(1), second, false), RunEnd::Wanted(Some(_), _)));
        assert!(matches!(activities.end(&id(1), second, false), RunEnd::Unknown));
    }
}
