//! Where state lives: the [`Provider`] trait, which the runtime and the client talk to, and nothing else.
//!
//! A provider keeps rows and hands them out; it never looks into an event or a message. What it must guarantee is said
//! at each method. The words are those of the whole project: *instance*, *execution*, *message*, *activity*, *node*.
//!
//! Three rules carry everything:
//!
//! 1. **Atomic**: each [`Commit`] and each [`Submission`] happens as a whole or not at all.
//! 2. **Fenced**: whatever a node writes is conditional, in the writing statement itself, on the node's [`Lease`] still
//!    owning what it writes to. A clock never decides that.
//! 3. **Idempotent**: a commit or a submission that is sent again under the same id is answered as done.

mod admin;
#[cfg(feature = "conformance")]
pub mod conformance;
mod constructors;
mod memory;
mod order;
mod ready;
mod rows;
mod wakeups;
mod work;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use admin::*;
pub use memory::MemoryProvider;
#[cfg(feature = "testing")]
pub(crate) use memory::{Begun, Beside};
pub(crate) use order::{Place, in_order};
pub(crate) use ready::Ready;
pub use rows::*;
pub use wakeups::*;
pub use work::*;

use crate::clock::Timestamp;
use crate::id::{EventId, ExecutionId, InstanceId, NodeId};

/// The storage of the runtime.
///
/// Every method is safe to cancel in this sense: when the future is dropped, what was asked for happens as a whole or not
/// at all, and asking again with the same ids is harmless. What happens after the drop is signalled by
/// [`Wakeups::work`], since nobody hears the answer.
///
/// What was dropped, or has failed as a whole, may still be carried out afterwards, such as a request on its way through a
/// network. Commits and submissions name what they do, and a question for work its number ([`Want::question`]), so that it
/// does no harm. Half a minute later it must not be carried out any more: until then the runtime looks for what came of it
/// and nobody has heard of.
///
/// Errors of a method as a whole ([`ProviderError`]) mean that nothing is known of the outcome, and that the call may be
/// made again; what one entry of a batch does wrong is the result of that entry.
pub trait Provider: Send + Sync + 'static {
    /// Makes a node a member and gives it a new lease, with an epoch greater than all before it.
    ///
    /// A node that joins with a build id that was not here before resumes, once per instance and build, the suspended
    /// instances that it has the code for (and their parked activities).
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>>;

    /// Shows that the node is alive, takes over what dead nodes owned, and brings back what was asked of the node.
    ///
    /// What a dead node owned has no owner afterwards, and [`Provider::acquire`] hands it to whoever asks: its activities,
    /// and its instances. Each in-flight item (an activity; an instance with messages that are due) gets `crashes + 1`.
    ///
    /// A lease that was taken over is answered with [`Renewal::Lost`].
    fn renew<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Renewal, ProviderError>>;

    /// Ends the membership: the node's instances and activities are free for others at once, without `crashes + 1`.
    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>>;

    /// Hands out work. See [`Want`] and [`Acquired`].
    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>>;

    /// Writes turns and outcomes. Each entry is atomic and fenced by itself; all of them are one group, made durable
    /// together. The results stand in the order of the entries. They are shared with the node, which needs them once they are
    /// answered, and may send them again.
    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>>;

    /// Writes what clients ask for. Each entry is atomic by itself; the results stand in the order of the entries.
    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>>;

    /// Reads the events of an execution behind `after`, oldest first: as many as the provider finds fit for one page, and
    /// at least one if there is one. An execution that does not exist has no events.
    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>>;

    /// Reads one instance.
    fn instance<'a>(&'a self, instance: &'a InstanceId)
    -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>>;

    /// Lists instances, newest first.
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>>;

    /// Removes finished instances with all that belongs to them. Live ones are never removed: their entry says so.
    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>>;

    /// Removes up to `limit` instances that match the filter and were finished before `before`; and of instances that
    /// match, live ones too, executions that were continued before then. Returns how many executions were removed.
    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<u64, ProviderError>>;

    /// Lists the nodes that are members now.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>>;

    /// The signals of this provider within this process.
    fn wakeups(&self) -> &Wakeups;
}

/// A node as it presents itself.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Its id: a new one for each `Runtime`.
    pub id: NodeId,
    /// Where it runs, for people: host and process.
    pub name: String,
    /// What code it runs: differs when the registry differs.
    pub build: String,
    /// What it can run.
    pub handlers: Handlers,
    /// How long it may be silent before it counts as dead, where its death cannot be seen otherwise.
    pub lease_time: std::time::Duration,
}

/// What a node can run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handlers {
    /// Orchestrations: name and version.
    pub orchestrations: Vec<(String, semver::Version)>,
    /// Names of activities.
    pub activities: Vec<String>,
    /// The activity tags that it serves beside untagged activities. `None`: all.
    pub tags: Option<Vec<String>>,
}

/// The membership of a node, from a join until it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The node.
    pub node: NodeId,
    /// Its term. Whatever it owns carries this number.
    pub epoch: crate::id::Epoch,
}

/// A failure of the storage itself: nothing is known of the outcome.
#[derive(Debug, thiserror::Error)]
#[error("the storage failed to {operation}: {source}")]
pub struct ProviderError {
    operation: &'static str,
    retryable: bool,
    code: crate::error::ErrorCode,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ProviderError {
    /// A failure that may pass: a busy or lost database, a full disk.
    pub fn retryable(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { operation, retryable: true, code: crate::error::ErrorCode::StorageFailed, source: source.into() }
    }

    /// A failure that the same call will meet again: a newer schema, a damaged file.
    pub fn permanent(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { operation, retryable: false, code: crate::error::ErrorCode::StorageFailed, source: source.into() }
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Its stable code.
    pub fn code(&self) -> crate::error::ErrorCode {
        self.code
    }

    /// The same, with a code that says more than that the storage failed.
    #[must_use]
    pub fn with_code(mut self, code: crate::error::ErrorCode) -> Self {
        self.code = code;
        self
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}
