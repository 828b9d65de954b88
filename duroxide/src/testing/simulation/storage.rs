//! The storage of a simulation: the reference provider, and in front of it the concurrency of a database.
//!
//! Without snapshots every call is atomic, and all calls are in one order. With snapshots (see
//! [`Simulation::snapshots`](super::Simulation::snapshots)) the storage behaves like a database with concurrent
//! writers, such as PostgreSQL at *read committed*:
//!
//! - Each entry of a commit or a submission is a **transaction** with two moments. When it *begins*, it locks the
//!   instances that it names, each with its activities and messages, and reads which epochs are members: they may own
//!   the items that it creates. When it *finishes*, all its effects become visible at once, its messages get their
//!   numbers, and its locks are released. The seed chooses the time in between, in which other transactions overtake
//!   it.
//! - A **take-over** (of a dead node, or of a node that leaves or joins again) reads which items the epoch owns, waits
//!   for the locks of their instances, and frees, when it finishes, those of the items that the epoch still owns. It
//!   does not see items that became visible after its read.
//! - A **request** for work begins with its snapshot, and claims later. A claim skips locked instances; once a lock is
//!   released, the nodes are signalled to request work again.
//! - Reads, renewals, deletions and prunes are atomic, and see only finished transactions.
//! - A transaction whose process crashed in between is finished or rolled back, as the seed chooses.
//!
//! Locks are granted in the order of the requests, and a transaction requests them in one order (the epoch, then the
//! instances by their ids), so that no cycle arises. No other transaction changes an instance while it is locked;
//! therefore a transaction checks its preconditions and decides by the instances when it finishes.
//!
//! Each of these rules keeps the storage correct, and a [`Flaw`] takes one of them away:
//!
//! - The numbers of an instance become visible in ascending order, because a message gets its number under the lock of
//!   the instance. A number that is taken before, as from a sequence, can become visible after a higher one. A node
//!   that has read up to the higher one never requests the lower one.
//! - A transaction that creates ownership excludes a take-over: it holds a shared lock on the epoch, which a take-over
//!   locks exclusively before it reads. Otherwise the take-over misses an item that becomes visible later, and the item
//!   belongs to an ended epoch forever.
//! - A claim returns the messages that are visible once it has locked the instance. A single statement returns those of
//!   its snapshot, which is older than its locks: a message is missing although the answer counts it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, RwLock};

use super::dice::{Dice, Stream};
use super::world::{Trace, pause};
use crate::id::{Epoch, InstanceId, NodeId};
use crate::provider::*;

/// The isolation of calls from each other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Isolation {
    /// Every call is atomic.
    #[default]
    Linearizable,
    /// Transactions have two moments; the storage has this flaw, or is correct.
    Snapshots(Option<Flaw>),
}

/// A flaw of the storage, planted to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// Messages are numbered before their instance is locked, as from a sequence: numbers become visible out of order.
    NumbersBeforeLock,
    /// A transaction that creates ownership does not exclude a take-over of the owner.
    CreationAllowsTakeOver,
    /// A claim returns the messages of a snapshot that is older than its locks.
    ClaimReadsBeforeItLocks,
}

pub(super) struct Storage {
    memory: MemoryProvider,
    snapshots: Option<Arc<Snapshots>>,
}

/// The locks that a write needs.
#[derive(Default)]
pub(super) struct Footprint {
    instances: BTreeSet<InstanceId>,
    /// The epoch that will own the items which the write creates, if it creates owned ones.
    creates_for: Option<Epoch>,
}

impl Footprint {
    pub(super) fn of_commit(lease: &Lease, commit: &Commit) -> Self {
        match &commit.write {
            Write::Turn(turn) => Self::of_turn(Some(lease.epoch), turn),
            write => Self { instances: BTreeSet::from([write.instance().clone()]), creates_for: None },
        }
    }

    pub(super) fn of_submission(submission: &Submission) -> Self {
        let creates_for = match submission.unaudited() {
            Submission::Start(StartRequest { new, lease, .. }) => lease.filter(|_| new.eager).map(|lease| lease.epoch),
            Submission::Terminate { turn, .. } => return Self::of_turn(None, turn),
            Submission::Graft(graft) => {
                let to = graft.outgoing.iter().map(|out| &out.to);
                let to = to.chain(graft.starts.iter().map(|child| &child.new.instance)).chain([graft.instance()]);
                return Self { instances: to.cloned().collect(), creates_for: None };
            }
            _ => None,
        };
        Self { instances: BTreeSet::from([submission.instance().clone()]), creates_for }
    }

    fn of_turn(epoch: Option<Epoch>, turn: &Turn) -> Self {
        let to = turn.messages.iter().map(|out| &out.to).chain(turn.starts.iter().map(|child| &child.new.instance));
        let eager = turn.creates.is_some()
            || turn.activities.iter().any(|activity| activity.eager)
            || turn.starts.iter().any(|child| child.new.eager);
        Self {
            instances: to.chain([&turn.execution.instance]).cloned().collect(),
            creates_for: epoch.filter(|_| eager),
        }
    }
}

impl Storage {
    pub(super) fn new(seed: u64, isolation: Isolation, trace: Trace) -> Self {
        let snapshots = match isolation {
            Isolation::Linearizable => None,
            Isolation::Snapshots(flaw) => Some(Arc::new(Snapshots::new(seed, flaw, trace))),
        };
        Self { memory: MemoryProvider::new(), snapshots }
    }

    /// Returns the finished state, for atomic calls.
    pub(super) fn visible(&self) -> &MemoryProvider {
        &self.memory
    }

    /// Ends the delays: transactions that begin from now on finish at once.
    pub(super) fn end_faults(&self) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.faults_ended.store(true, Ordering::Relaxed);
        }
    }

    /// Carries out a write for a process, even if the caller is dropped. Calls `apply` to make it visible, unless the
    /// write is rolled back.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        footprint: Footprint,
        has_died: impl Fn() -> bool + Send + 'static,
        apply: impl FnOnce(&MemoryProvider, Begun) -> T + Send + 'static,
    ) -> Result<T, ProviderError> {
        let memory = self.memory.clone();
        let Some(snapshots) = self.snapshots.clone() else { return Ok(apply(&memory, Begun::default())) };
        in_its_own_task(async move {
            let _no_take_over = snapshots.exclude_take_over(footprint.creates_for).await;
            let mut numbers = BTreeMap::new();
            if snapshots.flaw == Some(Flaw::NumbersBeforeLock) {
                numbers = memory.take_numbers(&footprint.instances);
                snapshots.let_time_pass().await;
            }
            let _locks = snapshots.lock(&footprint.instances).await;
            let begun = memory.begin(numbers);
            snapshots.trace.add(|| format!("a transaction on {:?} begins", footprint.instances));
            snapshots.let_time_pass().await;
            if has_died() && snapshots.dice().chance(0.5) {
                snapshots.trace.add(|| format!("the transaction on {:?} is rolled back", footprint.instances));
                snapshots.released(&memory);
                return Err(ProviderError::retryable("write", "its process crashed"));
            }
            let result = apply(&memory, begun);
            snapshots.released(&memory);
            Ok(result)
        })
        .await
    }

    /// Ends a membership, and frees the items that its epoch owns. Calls `ended` when that is visible.
    pub(super) async fn take_over(
        &self,
        epoch: Epoch,
        crashed: bool,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<(), ProviderError> {
        let memory = self.memory.clone();
        let Some(snapshots) = self.snapshots.clone() else {
            if let Some(owned) = memory.owned_by(epoch) {
                memory.finish_take_over(epoch, owned, crashed);
            }
            ended();
            return Ok(());
        };
        in_its_own_task(async move {
            let _no_new_items = snapshots.epoch(epoch).write_owned().await;
            let Some(owned) = memory.owned_by(epoch) else {
                ended();
                return Ok(());
            };
            let instances = owned.activities.iter().map(|id| &id.execution.instance).chain(&owned.instances);
            let instances = instances.cloned().collect();
            snapshots.trace.add(|| format!("a take-over of epoch {epoch} begins, which owns {instances:?}"));
            let _locks = snapshots.lock(&instances).await;
            snapshots.let_time_pass().await;
            memory.finish_take_over(epoch, owned, crashed);
            snapshots.trace.add(|| format!("epoch {epoch} has ended"));
            ended();
            snapshots.released(&memory);
            Ok(())
        })
        .await
    }

    /// Joins. A node that is a member loses its earlier epochs first, and `ended` is called for each of them.
    pub(super) async fn join(
        &self,
        node: &NodeInfo,
        ended: impl Fn(Epoch) + Clone + Send + 'static,
    ) -> Result<Lease, ProviderError> {
        if self.snapshots.is_some() {
            for epoch in self.epochs_of(node.id).await? {
                let ended = ended.clone();
                self.take_over(epoch, false, move || ended(epoch)).await?;
            }
        }
        self.memory.join(node).await
    }

    async fn epochs_of(&self, node: NodeId) -> Result<Vec<Epoch>, ProviderError> {
        let members = self.memory.nodes().await?;
        Ok(members.into_iter().filter(|member| member.info.id == node).map(|member| member.epoch).collect())
    }

    /// Answers a request for work, and calls `observe` when the claimed work is owned.
    pub(super) async fn acquire(
        &self,
        lease: &Lease,
        want: Want,
        observe: impl FnOnce(&Acquired),
    ) -> Result<Acquired, ProviderError> {
        let Some(snapshots) = &self.snapshots else {
            let acquired = self.memory.acquire(lease, want).await?;
            observe(&acquired);
            return Ok(acquired);
        };
        let last_seen = self.memory.last_arrival();
        snapshots.let_time_pass().await;
        let _no_take_over = snapshots.exclude_take_over(Some(lease.epoch)).await;
        let reads_first = snapshots.flaw == Some(Flaw::ClaimReadsBeforeItLocks);
        let beside = Beside { locked: snapshots.locked(), last_seen: reads_first.then_some(last_seen) };
        let (acquired, skipped) = self.memory.claim(lease, &want, beside);
        snapshots.skipped.fetch_or(skipped, Ordering::Relaxed);
        observe(&acquired);
        Ok(acquired)
    }
}

/// The concurrency of the storage.
struct Snapshots {
    flaw: Option<Flaw>,
    /// A std mutex, like the next two: held for a few instructions, never across an await.
    dice: Mutex<Dice>,
    instances: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>,
    epochs: Mutex<HashMap<Epoch, Arc<RwLock<()>>>>,
    /// The share of the transactions that take time, and the longest time.
    slow: f64,
    longest: Duration,
    /// True if a claim has skipped a locked instance since a lock was released.
    skipped: AtomicBool,
    faults_ended: AtomicBool,
    trace: Trace,
}

impl Snapshots {
    fn new(seed: u64, flaw: Option<Flaw>, trace: Trace) -> Self {
        let mut dice = Dice::new(seed, Stream::Transactions);
        let slow = [0.2, 0.6, 1.0][dice.index(3)];
        // Clients retry for a minute, and several transactions may queue for one instance.
        let longest = Duration::from_millis([5, 50, 500][dice.index(3)]);
        Self {
            flaw,
            dice: Mutex::new(dice),
            instances: Mutex::default(),
            epochs: Mutex::default(),
            slow,
            longest,
            skipped: AtomicBool::new(false),
            faults_ended: AtomicBool::new(false),
            trace,
        }
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the time between the two moments of a transaction.
    async fn let_time_pass(&self) {
        let length = {
            let mut dice = self.dice();
            let slow = !self.faults_ended.load(Ordering::Relaxed) && dice.chance(self.slow);
            if slow { dice.up_to(self.longest) } else { Duration::ZERO }
        };
        pause(length).await;
    }

    /// Excludes a take-over of the epoch while the guard is held. Waits for a take-over that has begun.
    async fn exclude_take_over(&self, epoch: Option<Epoch>) -> Option<OwnedRwLockReadGuard<()>> {
        let epoch = epoch.filter(|_| self.flaw != Some(Flaw::CreationAllowsTakeOver))?;
        Some(self.epoch(epoch).read_owned().await)
    }

    fn epoch(&self, epoch: Epoch) -> Arc<RwLock<()>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).entry(epoch).or_default().clone()
    }

    async fn lock(&self, instances: &BTreeSet<InstanceId>) -> Vec<OwnedMutexGuard<()>> {
        let mut locks = Vec::with_capacity(instances.len());
        for id in instances {
            let lock =
                self.instances.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()).or_default().clone();
            locks.push(lock.lock_owned().await);
        }
        locks
    }

    /// Returns the instances that are locked.
    fn locked(&self) -> BTreeSet<InstanceId> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        // A transaction that holds the lock, or waits for it, holds a clone.
        instances.retain(|_, lock| Arc::strong_count(lock) > 1);
        instances.keys().cloned().collect()
    }

    /// Signals the nodes to request work again if a claim has skipped a locked instance. Called when locks are
    /// released.
    fn released(&self, memory: &MemoryProvider) {
        if self.skipped.swap(false, Ordering::Relaxed) {
            memory.wakeups().work();
        }
    }
}

/// Runs a transaction to its end, even if its caller is dropped.
async fn in_its_own_task<T: Send + 'static>(
    transaction: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
) -> Result<T, ProviderError> {
    match tokio::spawn(transaction).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(stopped) => Err(ProviderError::retryable("write", stopped)),
        },
    }
}
