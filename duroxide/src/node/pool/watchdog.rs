//! The turns that run, and those of them that do not return: their threads are replaced, so that other instances
//! continue.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::Pool;
use crate::id::InstanceId;
use crate::replay::Core;

/// A turn, or a part of a replay, that runs.
pub(super) struct RunningTurn {
    instance: InstanceId,
    name: Arc<str>,
    since: Instant,
    core: Arc<OnceLock<Arc<Core>>>,
    /// True if it was reported as a turn that does not return.
    reported: bool,
    /// True if its thread was replaced: the thread ends with the turn.
    pub(super) replaced: bool,
}

impl RunningTurn {
    pub(super) fn new(instance: &InstanceId, name: &Arc<str>, core: Arc<OnceLock<Arc<Core>>>) -> Self {
        let (instance, name, since) = (instance.clone(), name.clone(), Instant::now());
        Self { instance, name, since, core, reported: false, replaced: false }
    }
}

/// A turn that has been running for long.
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
    /// Returns the turns that have been running for longer than the limit and were not reported, and the time until the
    /// next running turn reaches it. Replaces the threads of the stuck turns.
    pub(in crate::node) fn stuck(&self, limit: Duration) -> (Vec<StuckTurn>, Option<Duration>) {
        let mut state = self.0.lock();
        let mut stuck = Vec::new();
        let (mut next, mut failed) = (None, None);
        for (_, turn) in state.running.iter_mut().filter(|(_, turn)| !turn.replaced) {
            let since = turn.since.elapsed();
            if since < limit {
                next = next.into_iter().chain([limit - since]).min();
                continue;
            }
            if !std::mem::replace(&mut turn.reported, true) {
                let core = turn.core.get();
                let place = core.map_or_else(String::new, |core| core.function.place().to_owned());
                let last_call = core.and_then(|core| core.last_place());
                let last_call = last_call.map_or_else(String::new, ToString::to_string);
                let (instance, name) = (turn.instance.clone(), turn.name.clone());
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
