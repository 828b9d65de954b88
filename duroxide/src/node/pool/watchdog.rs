//! The turns that run, and those of them that do not return: their threads are replaced, so that other instances
//! continue.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::{Job, Pool};
use crate::clock::Timestamp;
use crate::id::{EventId, ExecutionId, InstanceId};
use crate::provider::StuckCode;
use crate::replay::Core;

/// A turn, or a part of a replay, that runs.
pub(super) struct RunningTurn {
    execution: ExecutionId,
    name: Arc<str>,
    /// The last event before the turn. `None`: a part of a replay.
    after: Option<EventId>,
    since: Instant,
    /// When it began, by the clock of the node. `None` until it is reported as a turn that does not return.
    began: Option<Timestamp>,
    core: Arc<OnceLock<Arc<Core>>>,
    /// True if its thread was replaced: the thread ends with the turn.
    pub(super) replaced: bool,
}

impl RunningTurn {
    pub(super) fn new(job: &Job, core: Arc<OnceLock<Arc<Core>>>) -> Self {
        let (execution, name, after) = match job {
            Job::Turn(job) => (job.execution(), &job.name, Some(job.committed)),
            Job::Replay(job) => (job.execution(), &job.name, None),
        };
        let (execution, name, since) = (execution.clone(), name.clone(), Instant::now());
        Self { execution, name, after, since, began: None, core, replaced: false }
    }

    /// Returns the places of its function and of its last durable call in the source.
    fn places(&self) -> [String; 2] {
        let core = self.core.get();
        let last_call = core.and_then(|core| core.last_place());
        [
            core.map_or_else(String::new, |core| core.function.place().to_owned()),
            last_call.map_or_else(String::new, ToString::to_string),
        ]
    }
}

/// A turn that has been running for a long time.
pub(in crate::node) struct StuckTurn {
    pub(in crate::node) instance: InstanceId,
    pub(in crate::node) name: Arc<str>,
    pub(in crate::node) since: Duration,
    /// The place of its function in the source.
    pub(in crate::node) place: String,
    /// The place of its last durable call.
    pub(in crate::node) last_call: String,
}

impl Pool {
    /// Returns the number of turns that wait for a thread, and the turns that were reported and still run.
    pub(in crate::node) fn stuck_code(&self) -> (usize, Vec<StuckCode>) {
        let state = self.0.lock();
        let stuck = state.running.iter().filter_map(|(_, turn)| {
            let began = turn.began?;
            Some(StuckCode::turn(turn.execution.clone(), turn.name.to_string(), turn.after, turn.places(), began))
        });
        (state.jobs.len(), stuck.collect())
    }

    /// Returns the number of turns that wait for a thread.
    pub(in crate::node) fn waiting(&self) -> usize {
        self.0.lock().jobs.len()
    }

    /// Returns the turns that have been running for longer than the limit and were not reported, and the time until the
    /// next running turn reaches it. Replaces the threads of the stuck turns.
    pub(in crate::node) fn stuck(&self, limit: Duration, now: Timestamp) -> (Vec<StuckTurn>, Option<Duration>) {
        let mut state = self.0.lock();
        let mut stuck = Vec::new();
        let (mut next, mut failed) = (None, None);
        for (_, turn) in state.running.iter_mut().filter(|(_, turn)| !turn.replaced) {
            let since = turn.since.elapsed();
            if since < limit {
                next = next.into_iter().chain([limit - since]).min();
                continue;
            }
            if turn.began.is_none() {
                turn.began = Some(now - since);
                let [place, last_call] = turn.places();
                let (instance, name) = (turn.execution.instance.clone(), turn.name.clone());
                stuck.push(StuckTurn { instance, name, since, place, last_call });
            }
            match self.spawn() {
                Ok(()) => turn.replaced = true,
                Err(error) => {
                    failed = Some(error);
                    next = next.into_iter().chain([limit]).min();
                }
            }
        }
        drop(state);
        if let Some(error) = failed {
            tracing::error!(%error, "the thread of a turn that does not return cannot be replaced yet");
        }
        (stuck, next)
    }
}
