//! Reads for people, and removals in bulk: the [`Admin`] trait, and its records, which
//! [`Provider::instance`](super::Provider::instance) returns as well.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::{
    AuditEntry, AuditPage, AuditQuery, BuildRecord, DepartedNode, Dimension, EventPreviews, EventRow, Groups,
    HistoryQuery, InstanceActivities, InstanceRows, MessagePreviews, NodeInfo, NodeReport, ProviderError, Subject,
};
use crate::clock::Timestamp;
use crate::error::{ErrorCode, shortened_to};
use crate::history::{Parent, TextMap, Waits, WaitsFilter};
use crate::id::{Epoch, EventId, ExecutionId, Identity, InstanceId};

/// Reads for people, and removals in bulk: the part of a provider off the path of turns.
///
/// A provider without it still runs orchestrations: see [`Provider::admin`](super::Provider::admin). Its answers may be
/// a moment old. A read may be slow, but must not delay the methods of [`Provider`](super::Provider): use a separate
/// connection, do not hold one snapshot for the whole read, and respect the time limit of the request.
///
/// # Cancel safety
/// Every method may be dropped while it is awaited. A read has no effect. A removal is carried out for each instance as
/// a whole or not at all, and the same call may be repeated.
pub trait Admin: Send + Sync {
    /// Lists the instances that match a filter, newest first: in the reverse order of their arrival at the storage,
    /// which does not depend on the clocks of their creators.
    ///
    /// The search ends when the page is full, when there are no more instances, or when the time limit is reached
    /// ([`InstancePage::complete`]). Each call must make progress, even with a time limit of zero, so that a client
    /// that follows [`InstancePage::next`] receives every instance. A stored instance that cannot be read in full is
    /// listed with [`InstanceRecord::damaged`]; it must not fail the list.
    ///
    /// # Errors
    /// [`ProviderError`]: the storage fails, or the token of the page was not made by this kind of provider
    /// ([`ErrorCode::InvalidPageToken`](crate::error::ErrorCode::InvalidPageToken)).
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>>;

    /// Counts the items of a subject by some dimensions; only those of instances that match the filter. Without a
    /// dimension, there is one group, or none if there are no items.
    ///
    /// The count ends when the time limit is reached, and then says so ([`Groups::complete`]). It need not be of one
    /// moment. It must not read all finished instances unless the filter includes them.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        time_limit: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>>;

    /// Lists the nodes that are members now, oldest first.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>>;

    /// Lists up to `limit` nodes that were members, the last one to depart first.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>>;

    /// Lists the recorded builds, the one that was seen last first; see [`BuildRecord`].
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>>;

    /// Reads the activities of an instance: those that have not ended, and the kept failed attempts of all. Returns `None`
    /// if there is no such instance.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>>;

    /// Reads a part of a history, with the beginnings of the values, which the storage cuts. An execution that does not exist,
    /// or has another identity, has no events.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>>;

    /// Reads the first messages of an instance that no turn has consumed, without their values, which the storage does not
    /// read. Returns `None` if there is no such instance.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>>;

    /// Reads the rows of an instance outside its histories, at one moment. Returns `None` if there is no such instance.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>>;

    /// Removes finished instances with all their data, each atomically. A live instance is never removed: its entry is
    /// an error. The results are in the order of the ids. If `audit` has an entry for each instance, that of a removed one
    /// is written in the same transaction; otherwise `audit` is empty.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails; some of the instances may have been removed.
    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>>;

    /// Carries out one batch of pruning, in the order of arrival: removes matching instances that finished before
    /// `before`, and the executions of other matching instances, including live ones, that were continued before `before`.
    ///
    /// A batch ends at its limit, at its time limit, or when no instance is left to remove; [`Pruned::next`]
    /// continues it. As with [`Admin::list`], each batch must make progress. Instances that arrived too late to be due
    /// are not searched.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails, or when the token was not made by this kind of provider. Instances
    /// that were removed until then stay removed.
    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>>;

    /// Writes entries to the audit. An entry with a known id is not written again.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails; the same call may be repeated.
    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>>;

    /// Lists the entries of the audit that match a query, newest first: in the reverse order in which they were written. As
    /// with [`Admin::list`], each call must make progress, even with a time limit of zero.
    ///
    /// # Errors
    /// [`ProviderError`]: the storage fails, or the token of the page was not made by this kind of provider.
    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>>;

    /// Removes up to `limit` entries of the audit that are older than a time, oldest first. Returns their number: less than
    /// `limit` if no more are due.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails; entries that were removed stay removed.
    fn prune_audit(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>>;
}

/// A page of a history.
#[derive(Debug, Clone, Default)]
pub struct HistoryPage {
    /// The events, oldest first.
    pub events: Vec<EventRow>,
    /// True if there are more events after these.
    pub more: bool,
}

/// The status of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstanceStatus {
    /// It runs, or waits.
    Running,
    /// Its code or its stored data has a fault: it does not run until it is resumed.
    Suspended,
    /// Its function returned `Ok`.
    Completed,
    /// Its function returned `Err` or panicked.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It was terminated.
    Terminated,
}

impl InstanceStatus {
    /// All statuses.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Suspended, Self::Completed, Self::Failed, Self::Cancelled, Self::Terminated];

    /// Returns true if the instance has finished.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Running | Self::Suspended)
    }

    /// Returns the name that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The stored state of an instance.
#[derive(Debug, Clone)]
pub struct InstanceRecord {
    /// Its current, or last, execution.
    pub execution: ExecutionId,
    /// The name of its orchestration.
    pub name: String,
    /// The version that the execution is pinned to.
    pub version: Option<Version>,
    /// Its status. An instance with a parked activity is given as suspended, although its code may continue.
    pub status: InstanceStatus,
    /// Labels to find it by.
    pub labels: TextMap,
    /// The call that started it and waits for its outcome.
    pub parent: Option<Parent>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
    /// The last event of the execution.
    pub last_event: EventId,
    /// That event, if the instance has finished: it holds the outcome.
    pub outcome: Option<EventRow>,
    /// The reason why it is suspended, or why an activity of it is parked; as JSON.
    pub suspension: Option<String>,
    /// The cause of its failure or suspension: a text that failures with one cause share ([`Turn::cause`](super::Turn::cause)).
    pub cause: Option<String>,
    /// The calls that it waits for, as its last turn recorded them. `None`: it has finished, or waits for no call.
    pub waits: Option<Waits>,
    /// The node that owns it.
    pub owner: Option<Epoch>,
    /// The work of the instance that no live node can claim, because none has the code (or serves the tag): the
    /// instance itself, or an activity of it.
    pub unclaimed: Option<Unclaimed>,
    /// The reason why the stored instance cannot be read in full. Then unreadable fields are empty, and an unreadable
    /// status is given as [`InstanceStatus::Suspended`].
    pub damaged: Option<String>,
}

/// Work that no live node can claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    /// The required code, for people: `orchestration checkout 2.0.0`, `activity ship with tag warehouse`.
    pub what: String,
    /// The time since which it has been due.
    pub since: Timestamp,
}

/// A filter of instances. All fields that are set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The name of the orchestration.
    pub name: Option<String>,
    /// One of these; empty: any. The status is that of [`InstanceRecord::status`].
    pub statuses: Vec<InstanceStatus>,
    /// These labels with these values.
    pub labels: TextMap,
    /// Created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
    /// The instance that started it.
    pub parent: Option<InstanceId>,
    /// The identity of the instance that started it, so that the children of an earlier instance with the id of
    /// [`parent`](Self::parent) do not match. An instance for which it is not recorded matches.
    pub parent_identity: Option<Identity>,
    /// The beginning of its id. If few ids begin so, the search may read only these; otherwise it reads all instances
    /// that match the rest of the filter.
    pub id_prefix: Option<String>,
    /// A text within its id; upper and lower case differ. The search reads all instances that match the rest of
    /// the filter, so give it a time limit ([`Page::time_limit`]) and follow its token.
    pub id_contains: Option<String>,
    /// The version that its execution is pinned to.
    pub version: Option<Version>,
    /// The node that owns it. Only instances that have not finished have one, and only these are read.
    pub node: Option<Epoch>,
    /// Finished at this time or later.
    pub finished_from: Option<Timestamp>,
    /// Finished before this time.
    pub finished_before: Option<Timestamp>,
    /// Last changed at this time or later.
    pub updated_from: Option<Timestamp>,
    /// Last changed before this time. Found among the instances that were created before it.
    pub updated_before: Option<Timestamp>,
    /// Waits for these calls: `WaitsFilter::event("Approval")`. A suspended instance waits for the calls that were open when
    /// it was suspended.
    pub waits: Option<WaitsFilter>,
    /// Has this cause ([`InstanceRecord::cause`]), or an activity that has it and has not ended.
    pub cause: Option<String>,
    /// Suspended with this code, or has an activity that is parked with it.
    pub suspension: Option<ErrorCode>,
}

impl Filter {
    /// Returns the range of causes of the suspensions with this code, for the author of a provider: the first one, and the
    /// end, which is excluded.
    pub fn causes_of(code: ErrorCode) -> (&'static str, String) {
        (code.as_str(), format!("{};", code.as_str()))
    }
}

/// A page of a list, and the time limit of the search for it.
///
/// ```
/// use std::time::Duration;
/// use duroxide::provider::Page;
///
/// let page = Page::new(50).time_limit(Duration::from_millis(100));
/// assert_eq!(page, Page { time_limit: Duration::from_millis(100), ..Page::from(50) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The maximum number of entries. Zero counts as one.
    pub limit: usize,
    /// The token of the previous page. `None`: this is the first page.
    pub after: Option<PageToken>,
    /// The time after which the storage answers with the entries found so far, including the time in its queue.
    pub time_limit: Duration,
}

impl Page {
    /// The default of [`Page::time_limit`].
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(10);

    /// Returns the first page, of up to `limit` entries, with a time limit of 10 s.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, after: None, time_limit: Self::DEFAULT_TIME_LIMIT }
    }

    /// Sets the token of the previous page. `None`: this is the first page.
    #[must_use]
    pub fn after(mut self, token: impl Into<Option<PageToken>>) -> Self {
        self.after = token.into();
        self
    }

    /// Sets the time limit of the search.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }
}

impl From<usize> for Page {
    fn from(limit: usize) -> Self {
        Self::new(limit)
    }
}

/// The end of a page: a text that only the provider interprets. It stays valid while instances are created and deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PageToken(String);

impl PageToken {
    /// Makes a token of a text: from a provider, or from [`PageToken::as_str`] after it was stored or sent.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the error of a provider that did not make this token.
    pub fn refused(&self, operation: &'static str) -> ProviderError {
        let reason = format!("the page token {:?} was not made by this storage", shortened_to(200, self.as_str()));
        ProviderError::permanent(operation, reason).with_code(crate::error::ErrorCode::InvalidPageToken)
    }

    /// Makes a token of the arrival number at which a search continues.
    pub(crate) fn of_arrival(number: i64) -> Self {
        Self(format!("a{number}"))
    }

    /// Reads a token that [`PageToken::of_arrival`] made.
    pub(crate) fn arrival(&self, operation: &'static str) -> Result<i64, ProviderError> {
        let digits = self.0.strip_prefix('a').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| self.refused(operation))
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A part of a list, newest first.
#[derive(Debug, Clone)]
pub struct InstancePage {
    /// The instances. Their `outcome` and `unclaimed` are left out.
    pub instances: Vec<InstanceRecord>,
    /// The token of the next page, unless all instances have been searched. The next page may be empty.
    pub next: Option<PageToken>,
    /// The number of instances that were searched.
    pub searched: u64,
    /// False if the time limit was reached before the page was full: there may be more instances, which `next` finds.
    pub complete: bool,
}

/// The result of one batch of pruning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// The number of executions that were removed.
    pub executions: u64,
    /// The token of the next batch, unless everything that was due has been removed.
    pub next: Option<PageToken>,
}

/// The reason why an instance was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// There is no such instance.
    #[error("there is no such instance")]
    NotFound,
    /// It has not finished: cancel or terminate it first.
    #[error("the instance is {0}; only finished ones can be deleted: cancel or terminate it first")]
    Live(InstanceStatus),
}

/// A node that is a member, with the number of its items.
#[derive(Debug, Clone)]
pub struct NodeRecord {
    /// The description that it joined with.
    pub info: NodeInfo,
    /// Its epoch.
    pub epoch: Epoch,
    /// The number of instances that it owns.
    pub instances: u64,
    /// The number of activities that it owns.
    pub activities: u64,
    /// Its last sign of life, by the clock of the storage. `None`: it is not known.
    pub seen_at: Option<Timestamp>,
    /// Its last report. Empty if it has departed.
    pub report: NodeReport,
}

impl NodeRecord {
    /// Makes the record of a node that owns nothing and has no report, with its last sign of life.
    pub fn departed(info: NodeInfo, epoch: Epoch, seen_at: Timestamp) -> Self {
        let report = NodeReport::default();
        Self { info, epoch, instances: 0, activities: 0, seen_at: Some(seen_at), report }
    }
}
