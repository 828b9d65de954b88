//! Reads for people, and removals in bulk: the [`Admin`] trait, and the records that it and
//! [`Provider::instance`](super::Provider::instance) answer with.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::{EventRow, NodeInfo, ProviderError};
use crate::clock::Timestamp;
use crate::history::{Parent, TextMap};
use crate::id::{Epoch, EventId, ExecutionId, InstanceId};

/// Reads for people, and removals in bulk: the part of a provider that no turn ever waits for.
///
/// A provider without it runs orchestrations all the same: see [`Provider::admin`](super::Provider::admin). Its answers may be
/// a moment old. A read may be slow, but it must not delay [`Provider`](super::Provider)'s own methods: give it a connection
/// of its own, do not let it hold a snapshot for as long as it takes, and keep to the time limit of the request.
///
/// # Cancel safety
/// Every method may be dropped while it is awaited. A read has no effect. A removal is carried out for each instance as a
/// whole or not at all, and the same call can be made again.
pub trait Admin: Send + Sync {
    /// Lists the instances that match a filter, newest first: in the reverse order of their arrival at the storage, which
    /// does not depend on the clocks of their creators.
    ///
    /// The search ends when the page is full, when there are no more instances, or when the time limit is reached
    /// ([`InstancePage::complete`]). It must get further with each call, also with a time limit of zero, so that a client that
    /// follows [`InstancePage::next`] sees every instance. A stored instance that cannot be read in full is listed with
    /// [`InstanceRecord::damaged`], and fails no list.
    ///
    /// # Errors
    /// [`ProviderError`]: the storage fails; or the token of the page was not made by this kind of provider
    /// ([`ErrorCode::InvalidPageToken`](crate::ErrorCode::InvalidPageToken)).
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>>;

    /// Lists the nodes that are members now, oldest first.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>>;

    /// Removes finished instances with all that belongs to them, each atomically. Live ones are never removed: their entry
    /// says so. The results are in the order of the ids.
    ///
    /// # Errors
    /// [`ProviderError`] when the storage fails; some of the instances may have been removed.
    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>>;

    /// Carries out one batch of pruning: removes instances that match the filter and finished before `before`, and of the
    /// other instances that match, live ones too, executions that were continued before then. In the order of arrival.
    ///
    /// A batch ends at its limit, at its time limit, or when there is nothing more to remove; [`Pruned::next`] continues it.
    /// Like [`Admin::list`], each batch must get further than the one before. Instances that arrived too late to be due are not searched.
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
}

/// Some events of a history.
#[derive(Debug, Clone, Default)]
pub struct HistoryPage {
    /// The events, oldest first.
    pub events: Vec<EventRow>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstanceStatus {
    /// It runs, or waits.
    Running,
    /// Something is wrong with its code or with what is stored of it: it stands still until it is resumed.
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
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Suspended, Self::Completed, Self::Failed, Self::Cancelled, Self::Terminated];

    /// Whether it has come to its end.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Running | Self::Suspended)
    }

    /// The name that is stored.
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

/// What is stored of an instance.
#[derive(Debug, Clone)]
pub struct InstanceRecord {
    /// Its current, or last, execution.
    pub execution: ExecutionId,
    /// The name of its orchestration.
    pub name: String,
    /// The version that the execution is pinned to.
    pub version: Option<Version>,
    /// Where it is in its life.
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
    /// That event, when the instance has finished: it tells the outcome.
    pub outcome: Option<EventRow>,
    /// Why it is suspended, or why an activity of it is parked; as JSON.
    pub suspension: Option<String>,
    /// The node that owns it.
    pub owner: Option<Epoch>,
    /// Since when something waits that no live node has the code (or the tag) for: the instance itself, or an activity of it.
    pub unclaimed: Option<Unclaimed>,
    /// Why the stored instance cannot be read in full. Fields that cannot be read are empty then; a status that cannot be read
    /// shows as [`InstanceStatus::Suspended`].
    pub damaged: Option<String>,
}

/// Work that no live node can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclaimed {
    /// What would be needed, for people: `orchestration checkout 2.0.0`, `activity ship with tag warehouse`.
    pub what: String,
    /// Since when it has been due.
    pub since: Timestamp,
}

/// Which instances to list. Everything that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The name of the orchestration.
    pub name: Option<String>,
    /// One of these; empty: any.
    pub statuses: Vec<InstanceStatus>,
    /// These labels with these values.
    pub labels: TextMap,
    /// Created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Created before this time.
    pub created_before: Option<Timestamp>,
    /// The instance that started it.
    pub parent: Option<InstanceId>,
}

/// Which part of a list, and how long the storage may search for it.
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
    /// The most entries on it. Zero counts as one.
    pub limit: usize,
    /// The end of the page before this one.
    pub after: Option<PageToken>,
    /// How long the storage may search before it answers with the entries found so far, the time in its queue included.
    pub time_limit: Duration,
}

impl Page {
    /// How long a search may take unless [`Page::time_limit`] says otherwise.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(10);

    /// Returns the first page, of up to `limit` entries, with a time limit of 10 s.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, after: None, time_limit: Self::DEFAULT_TIME_LIMIT }
    }

    /// Sets the page before this one, by the token that came with it. `None`: this is the first.
    #[must_use]
    pub fn after(mut self, token: impl Into<Option<PageToken>>) -> Self {
        self.after = token.into();
        self
    }

    /// Sets how long the storage may search.
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

/// The end of a page: a text that the provider makes and checks, without a meaning for others. Stays valid while instances
/// are created and deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PageToken(String);

impl PageToken {
    /// Makes a token of a text: that of a provider, or one that was stored or sent by way of [`PageToken::as_str`].
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The error of a provider that did not make this token.
    pub fn refused(&self, operation: &'static str) -> ProviderError {
        let reason = format!("the page token {:?} was not made by this storage", self.as_str());
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
    /// The instances. `outcome` and `unclaimed` are left out.
    pub instances: Vec<InstanceRecord>,
    /// The token of the next page, unless all instances have been searched. The next page may turn out to be empty.
    pub next: Option<PageToken>,
    /// How many instances the search looked at.
    pub searched: u64,
    /// False when the time limit was reached before the page was full: there may be more instances, and `next` finds them.
    pub complete: bool,
}

/// The result of one batch of pruning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// How many executions were removed.
    pub executions: u64,
    /// The token of the next batch, unless all that was due has been removed.
    pub next: Option<PageToken>,
}

/// Why an instance was not deleted.
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

/// A node that is a member.
#[derive(Debug, Clone)]
pub struct NodeRecord {
    /// As it presented itself.
    pub info: NodeInfo,
    /// Its term.
    pub epoch: Epoch,
    /// How many instances it owns.
    pub instances: u64,
    /// How many activities it owns.
    pub activities: u64,
}
