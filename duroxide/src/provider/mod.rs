//! The storage of state: the [`Provider`] trait, through which the runtime and the client reach it.
//!
//! An implementation of another storage needs it, and so does a program that keeps its state in memory
//! ([`MemoryProvider`]). The page [Provider implementation guide] gives the order in which to build a provider.
//!
//! [Provider implementation guide]: https://github.com/duroxide/duroxide/blob/main/docs/provider-implementation-guide.md
//!
//! A provider stores rows and returns them; it never reads the content of an event or a message. Lists and bulk removals are
//! a trait of their own, [`Admin`].
//!
//! The contract has four rules, which also hold in a store with many writers:
//!
//! 1. **Atomic**: each [`Commit`] and each [`Submission`] takes effect as a whole or not at all.
//! 2. **Fenced**: each write of a node depends, in the writing statement itself, on the node's [`Lease`] still owning the
//!    item. A clock never decides ownership. A write that creates ownership (an eager instance, an eager activity, a claim)
//!    excludes a take-over of that lease: either the take-over comes first, and the write does not create ownership, or the
//!    take-over sees the item and frees it.
//! 3. **Idempotent**: a turn or a submission that is sent again under the same id is answered as done. Other writes name the
//!    tenure that they end, and are refused the second time.
//! 4. **Numbered**: messages are numbered per instance, under the lock of the instance, so that its owner detects a missing
//!    message; see [`MessageRow::number`]. The number, the owner and the messages of an answer are of one moment.

mod acquire;
mod admin;
mod attempt;
mod attempts;
mod audit;
mod build;
mod commit;
#[cfg(feature = "conformance")]
pub mod conformance;
mod constructors;
mod events;
mod graft;
mod groups;
mod layer;
mod measured;
mod memory;
mod messages;
mod node_report;
mod note;
mod order;
mod ready;
mod redact;
mod rows;
mod submit;
mod wakeups;
mod within;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use acquire::*;
pub use admin::*;
pub use attempt::*;
pub use attempts::*;
pub use audit::*;
pub use build::*;
pub use commit::*;
pub use events::*;
pub use graft::*;
pub use groups::*;
pub use layer::{Layered, ProviderLayer};
pub use measured::Measured;
pub use memory::MemoryProvider;
#[cfg(feature = "testing")]
pub(crate) use memory::{Begun, Beside};
pub use messages::*;
pub use node_report::*;
pub use note::Note;
pub use order::{DeliveryKey, in_order};
pub use ready::Ready;
pub use redact::RedactRequest;
pub use rows::*;
pub use submit::*;
pub use wakeups::*;
pub use within::*;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::id::{EventId, ExecutionId, InstanceId, NodeId};
pub use crate::message::{Lane, Message};

/// The storage of the runtime.
///
/// # Cancel safety
/// When the future of a method is dropped, the request takes effect as a whole or not at all, and a repetition with the same
/// ids is harmless. The effect of a request that was dropped is signalled by [`Wakeups::work`], since no caller receives the
/// answer.
///
/// A request that was dropped, or has failed as a whole, may still be carried out afterwards, for example if it is on its way
/// through a network. A late request does no harm: commits and submissions have ids, and a request for work names the last
/// claim that its node has received ([`Want::claim`]). But a request must not be carried out later than half a minute after
/// it was dropped or has failed, because the runtime rechecks the instances concerned only that long.
///
/// # Errors
/// The error of a method as a whole ([`ProviderError`]) means that the outcome is unknown, and that the call may be repeated.
/// The failure of one entry of a batch is the result of that entry.
pub trait Provider: Send + Sync + 'static {
    /// Makes a node a member and gives it a new lease, with an epoch greater than all earlier ones.
    ///
    /// Whenever the members change (by a join, a leave or a take-over), the provider checks the items that builds have
    /// rejected ([`Then::Suspend`], [`Write::Park`]). A suspended instance or a parked activity is released if a member can
    /// try it. An item without an owner that was left to other builds is suspended or parked if no member can try it. The
    /// crashes of the item are kept.
    ///
    /// The join records the build of the node, unless it has no code or the build is known ([`BuildRecord`]).
    ///
    /// A node that joins again has not died. The join reverts the crash that a take-over of this node has counted, with the
    /// mark `suspect` that the crash caused, for each item that has no owner.
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>>;

    /// Shows that the node is alive, and takes over the items of dead nodes.
    ///
    /// A provider may conclude from silence that a node is dead only if the storage was reachable during all of that time.
    /// After an outage of the storage that was longer than a lease, all nodes get the time to renew first.
    ///
    /// The instances and activities of a dead node have no owner afterwards, and [`Provider::acquire`] returns them to other
    /// nodes. Each in-flight item (an activity; an instance with messages that are due) gets `crashes + 1`.
    ///
    /// The end of each membership leaves a [`DepartedNode`], in the same transaction, if the provider has an [`Admin`].
    ///
    /// A lease that was taken over is answered with [`Renewal::Lost`].
    ///
    /// The report is for people: [`Admin::nodes`] shows the last one. Its write must not fail or delay the renewals, and is
    /// left out if the report has not changed and the renewal writes nothing else.
    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>>;

    /// Ends the membership: other nodes may claim the node's instances and activities at once, without `crashes + 1`.
    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>>;

    /// Returns work that the lease owns, and claims new work. See [`Want`] and [`Acquired`].
    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>>;

    /// Writes turns and outcomes. Each entry is atomic and fenced on its own; all of them are one group, made durable
    /// together. The results have the order of the entries. The node shares the entries, since it may send them again.
    ///
    /// The entries of a node are independent of each other. A store in which a transaction of the program can lock the rows
    /// of an entry answers that entry with [`CommitError::Locked`], so that the others need not wait for its lock.
    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>>;

    /// Writes submissions of clients. Each entry is atomic on its own; the results have the order of the entries.
    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>>;

    /// Reads the events of an execution after `after`, oldest first. The provider chooses the size of the page, which holds
    /// at least one event if there is one. An execution that does not exist, or has another identity, has no events.
    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>>;

    /// Returns the clock of the storage, if it has one. Nodes and clients take their times from it unless the user sets
    /// another clock, so that one clock decides which items are due. Default: none; they use the clock of their machine.
    fn clock(&self) -> Option<Arc<dyn Clock>> {
        None
    }

    /// Reads an instance, and registers the caller for its end in one step: if the instance has not finished in the answer, a
    /// later end or change is signalled by [`Wakeups::changed`] in this process, even if another process makes it. The
    /// registration lasts until the first signal: a caller that still waits calls this again. It waits for the end, so the
    /// provider may leave out [`InstanceRecord::unclaimed`].
    ///
    /// Default: [`Provider::instance`], for a provider whose signals reach all its processes, or that has only one process.
    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        self.instance(instance)
    }

    /// Reads one instance.
    fn instance<'a>(&'a self, instance: &'a InstanceId)
    -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>>;

    /// Returns the lists and bulk removals. `None`: this provider does not have them, and a [`Client`](crate::Client) refuses
    /// to list, delete and prune.
    fn admin(&self) -> Option<&dyn Admin> {
        None
    }

    /// Returns the part that writes within transactions of the user. `None`: this provider cannot, and `.within(..)` and
    /// transactional activities are refused.
    fn transactional(&self) -> Option<&dyn Transactional> {
        None
    }

    /// The signals of this provider within this process.
    fn wakeups(&self) -> &Wakeups;
}

/// Returns the clock of a provider, or that of the operating system.
pub(crate) fn clock_of(provider: &dyn Provider) -> Arc<dyn Clock> {
    provider.clock().unwrap_or_else(|| Arc::new(SystemClock))
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease holds.
    Held {
        /// How long it holds, counted from the beginning of the request on the monotonic clock of the node, if no later renewal
        /// succeeds. A node whose lease has expired stops its work, even if no other node has taken over yet.
        valid_for: Duration,
        /// The other members. A node that has the store for itself keeps all work; with others it leaves work to them
        /// while it is busy, and releases a share of its instances while it is busier than its peers.
        others: Others,
    },
    /// The node was taken over: it owns nothing, and may join again.
    Lost,
}

/// The other members, as a renewal finds them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    /// Their number.
    pub nodes: usize,
    /// The number of those with the same build ([`NodeInfo::build`]), which can run the same instances.
    pub peers: usize,
    /// The sum of [`NodeReport::waiting_turns`] of the last reports of the peers.
    pub waiting_turns: u64,
}

impl Others {
    /// Adds a member. A peer has a report: its last one.
    pub fn add(&mut self, peer: Option<&NodeReport>) {
        self.nodes += 1;
        self.peers += usize::from(peer.is_some());
        self.waiting_turns = self.waiting_turns.saturating_add(peer.map_or(0, |report| report.waiting_turns));
    }
}

/// The description of a node that joins.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Its id: a new one for each `Runtime`.
    pub id: NodeId,
    /// Its host and process, for people.
    pub name: String,
    /// The id of its code: differs when the code differs.
    pub build: String,
    /// The code that it can run.
    pub handlers: Handlers,
    /// The time of silence after which it counts as dead, unless the provider detects its death earlier.
    pub lease_time: Duration,
    /// Its process and its code, for people.
    pub details: NodeDetails,
}

/// The process and the code of a node, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeDetails {
    /// The name of its host.
    pub host: Option<String>,
    /// The id of its process on that host.
    pub process: Option<u32>,
    /// When it started, by its clock.
    pub started_at: Option<Timestamp>,
    /// The code of its build. Recorded once for each build at a join; lists of nodes leave it out.
    pub code: Arc<BuildCode>,
}

/// The orchestrations and activities that a node can run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handlers {
    /// Orchestrations: name and version.
    pub orchestrations: Vec<(String, semver::Version)>,
    /// Names of activities.
    pub activities: Vec<String>,
    /// The activity tags that it serves beside untagged activities. `None`: all.
    pub tags: Option<Vec<String>>,
}

impl Handlers {
    /// Returns true if the node can run an activity of this name with this tag.
    pub fn serves(&self, activity: &str, tag: Option<&str>) -> bool {
        let has_tag = |tag: &str| self.tags.as_ref().is_none_or(|tags| tags.iter().any(|served| served == tag));
        self.activities.iter().any(|name| name == activity) && tag.is_none_or(has_tag)
    }

    /// Returns true if the node has the code of an orchestration: in this version, or in any if none is given.
    pub fn has_code(&self, orchestration: &str, version: Option<&str>) -> bool {
        let is_version = |of: &semver::Version| version.is_none_or(|version| of.to_string() == version);
        self.orchestrations.iter().any(|(name, of)| name == orchestration && is_version(of))
    }
}

/// The membership of a node, from a join until it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The node.
    pub node: NodeId,
    /// Its term: the owner field of each owned item holds this number.
    pub epoch: crate::id::Epoch,
}

/// A failure of the storage itself: the outcome of the call is unknown.
#[derive(Debug, thiserror::Error)]
#[error("the storage failed to {operation}: {source}")]
pub struct ProviderError {
    operation: &'static str,
    retryable: bool,
    code: crate::error::ErrorCode,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ProviderError {
    /// Makes the error of a failure that may pass: a busy or unreachable database, a full disk.
    pub fn retryable(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { operation, retryable: true, code: crate::error::ErrorCode::StorageFailed, source: source.into() }
    }

    /// Makes the error of a failure that the same call will meet again: a newer schema, a damaged file.
    pub fn permanent(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { operation, retryable: false, code: crate::error::ErrorCode::StorageFailed, source: source.into() }
    }

    /// Returns the operation that failed.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns its stable code.
    pub fn code(&self) -> crate::error::ErrorCode {
        self.code
    }

    /// Puts the subject of the failure before its reason, for example the path of a file.
    #[must_use]
    pub fn about(mut self, subject: impl std::fmt::Display) -> Self {
        self.source = format!("{subject}: {}", self.source).into();
        self
    }

    /// Sets a code that is more precise than [`ErrorCode::StorageFailed`](crate::error::ErrorCode::StorageFailed).
    #[must_use]
    pub fn with_code(mut self, code: crate::error::ErrorCode) -> Self {
        self.code = code;
        self
    }

    /// Returns true if the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}
