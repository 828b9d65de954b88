//! Operations that begin and take effect at two different moments, as in a database with concurrent writers.
//!
//! The simulation calls them: it holds the locks, and time passes between the moments. Each method here is one moment.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::id::ActivityId;

/// The members that a transaction has read, and the numbers that it has taken, when it began. Empty if it begins and
/// takes effect at one moment.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    members: Option<BTreeSet<Epoch>>,
    /// The numbers that the transaction has taken for its messages, one for each instance.
    numbers: BTreeMap<InstanceId, u64>,
}

impl Begun {
    /// Returns true if the transaction has read the epoch as that of a member, or `None` if it has read no members.
    pub(super) fn member(&self, epoch: Epoch) -> Option<bool> {
        self.members.as_ref().map(|members| members.contains(&epoch))
    }

    /// Returns the number that the transaction has taken for its message to an instance, if any.
    pub(super) fn number(&self, to: &InstanceId) -> Option<u64> {
        self.numbers.get(to).copied()
    }
}

/// The transactions that are in flight during a claim, as far as they concern it.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Instances that other transactions have locked: the claim skips them.
    pub(crate) locked: BTreeSet<InstanceId>,
    /// The arrival of the last message that is visible to the claim. `None`: all messages are visible.
    pub(crate) last_seen: Option<i64>,
}

impl Beside {
    /// Returns true if the message with this arrival is visible to the claim.
    pub(super) fn sees(&self, arrival: i64) -> bool {
        self.last_seen.is_none_or(|last| arrival <= last)
    }
}

/// The items that an epoch owned at some moment.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    pub(crate) instances: Vec<InstanceId>,
    pub(crate) activities: Vec<ActivityId>,
}

#[cfg(feature = "testing")]
impl MemoryProvider {
    /// Begins a transaction that may already have taken numbers: reads the epochs of the members.
    pub(crate) fn begin(&self, numbers: BTreeMap<InstanceId, u64>) -> Begun {
        self.with(|state| Begun { members: Some(state.nodes.keys().copied().collect()), numbers })
    }

    /// Takes the next number of each instance, before the transaction locks the instance and becomes visible.
    pub(crate) fn take_numbers(&self, instances: &BTreeSet<InstanceId>) -> BTreeMap<InstanceId, u64> {
        self.with(|state| {
            let mut taken = BTreeMap::new();
            for id in instances {
                if let Some(instance) = state.instances.get_mut(id) {
                    let last = state.taken.entry(id.clone()).or_default();
                    *last = instance.arrivals.max(*last) + 1;
                    taken.insert(id.clone(), *last);
                }
            }
            taken
        })
    }

    /// Makes a commit visible.
    pub(crate) fn finish_commit(&self, begun: Begun, lease: &Lease, commit: Commit) -> Result<Committed, CommitError> {
        self.finish(begun, |state| {
            state.take_over_dead();
            state.commit(lease, commit)
        })
    }

    /// Makes a submission visible.
    pub(crate) fn finish_submission(&self, begun: Begun, submission: Submission) -> Result<Submitted, SubmitError> {
        self.finish(begun, |state| state.submit(submission))
    }

    fn finish<T>(&self, begun: Begun, operation: impl FnOnce(&mut State) -> T) -> T {
        self.with(|state| {
            state.begun = begun;
            let result = operation(state);
            state.begun = Begun::default();
            result
        })
    }

    /// Begins a request for work: returns the arrival of the last message in its snapshot.
    pub(crate) fn last_arrival(&self) -> i64 {
        self.with(|state| state.last_arrival)
    }

    /// Finishes a request for work: claims waiting instances and activities. The second result is true if the claim may
    /// have skipped an item because of a lock.
    pub(crate) fn claim(&self, lease: &Lease, want: &Want, beside: Beside) -> (Acquired, bool) {
        self.with(|state| {
            let skips = beside.locked.iter().any(|id| state.is_waiting(id));
            state.beside = beside;
            let acquired = state.acquire(lease, want);
            state.beside = Beside::default();
            (acquired, skips)
        })
    }

    /// Begins a take-over: returns the items that the epoch owns, or `None` if the epoch is not a member.
    pub(crate) fn owned_by(&self, epoch: Epoch) -> Option<Owned> {
        self.with(|state| state.nodes.contains_key(&epoch).then(|| state.owned_by(epoch)))
    }

    /// Finishes a take-over.
    pub(crate) fn finish_take_over(&self, epoch: Epoch, owned: Owned, crashed: bool) {
        self.with(|state| {
            let cause = if crashed { Departure::Died } else { Departure::Left };
            state.free_these(epoch, owned, cause);
            state.settle_rejected();
        });
    }
}

#[cfg(feature = "testing")]
impl State {
    /// Returns true if the instance or one of its activities waits for an owner.
    fn is_waiting(&self, id: &InstanceId) -> bool {
        let waits = |id: &ActivityId| self.activities.get(id).is_some_and(|a| a.owner.is_none() && !a.parked);
        let itself = self.instances.get(id).is_some_and(|instance| instance.ready.is_some());
        itself || self.activities_of(id, None).iter().any(waits)
    }
}
