//! One action on many instances.

use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use super::audit::Act;
use super::cut_point::CutPoint;
use super::graft::{CutPlan, ResetCall};
use super::{Client, ClientError, Handle, Status, Untyped};
use crate::clock::Timestamp;
use crate::error::ErrorCode;
use crate::id::{BatchId, InstanceId};
use crate::provider::{Dimension, Filter, Groups, InstanceStatus, Page, PageToken, Subject};

/// An action on each instance of a [`BulkCall`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BulkAction {
    /// [`Handle::resume`].
    Resume,
    /// [`Handle::suspend`].
    Suspend {
        /// The reason.
        reason: String,
        /// The end of the pause, if it has one.
        until: Option<Timestamp>,
    },
    /// [`Handle::wake`].
    Wake,
    /// [`Handle::cancel`].
    Cancel {
        /// The reason.
        reason: String,
    },
    /// [`Handle::terminate`].
    Terminate {
        /// The reason.
        reason: String,
    },
    /// [`Handle::delete`].
    Delete,
    /// [`Handle::erase`].
    Erase,
    /// [`Handle::reset`], including instances that have finished. An instance whose history has no such point is skipped.
    Reset {
        /// The place to which the instances are reset.
        to: CutPoint,
        /// As [`ResetCall::keep_outcomes`](super::ResetCall::keep_outcomes).
        keep_outcomes: bool,
    },
}

impl BulkAction {
    fn name(&self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Suspend { .. } => "suspend",
            Self::Wake => "wake",
            Self::Cancel { .. } => "cancel",
            Self::Terminate { .. } => "terminate",
            Self::Delete => "delete",
            Self::Erase => "erase",
            Self::Reset { .. } => "reset",
        }
    }

    /// Describes the action for the audit.
    fn described(&self) -> String {
        match self {
            Self::Reset { to, keep_outcomes: false } => format!("reset ({to})"),
            Self::Reset { to, keep_outcomes: true } => format!("reset ({to}, outcomes kept)"),
            _ => self.name().to_owned(),
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Suspend { reason, .. } | Self::Cancel { reason } | Self::Terminate { reason } => Some(reason),
            Self::Resume | Self::Wake | Self::Delete | Self::Erase | Self::Reset { .. } => None,
        }
    }

    /// Returns true if the action can have an effect on an instance with this status.
    fn concerns(&self, status: InstanceStatus) -> bool {
        match self {
            Self::Resume => status == InstanceStatus::Suspended,
            Self::Suspend { .. } | Self::Wake | Self::Cancel { .. } | Self::Terminate { .. } => !status.is_finished(),
            Self::Delete | Self::Erase => status.is_finished(),
            Self::Reset { .. } => true,
        }
    }

    async fn apply(&self, handle: &Handle<Untyped>) -> Result<(), ClientError> {
        match self {
            Self::Resume => handle.resume().await,
            Self::Suspend { reason, until: None } => handle.suspend(reason).await,
            Self::Suspend { reason, until: Some(until) } => handle.suspend(reason).until(*until).await,
            Self::Wake => handle.wake().await.map(drop),
            Self::Cancel { reason } => handle.cancel(reason).await,
            Self::Terminate { reason } => handle.terminate(reason).await,
            Self::Delete => handle.delete().await,
            Self::Erase => handle.erase().await.map(drop),
            Self::Reset { to, keep_outcomes } => reset(handle, to, *keep_outcomes).await.map(drop),
        }
    }

    /// Carries out the action on some instances. Returns the number of requests that it took.
    pub(super) async fn apply_to(&self, client: &Client, instances: Vec<Status>, report: &mut BulkReport) -> u32 {
        let all = instances.len();
        let concerned = instances.into_iter().filter(|status| self.concerns(status.status));
        let applied = stream::iter(concerned).map(|status| async move {
            let instance = status.execution.instance;
            let result = self.apply(&Handle::of(client, instance.clone())).await;
            (instance, result)
        });
        let results: Vec<_> = applied.buffered(BulkCall::AT_ONCE).collect().await;
        let requests = results.len();
        report.skipped += (all - requests) as u64;
        for (instance, result) in results {
            match result {
                Ok(()) => report.done += 1,
                Err(error) if has_no_effect(&error) => report.skipped += 1,
                Err(error) if error.is_storage_failure() => report.stopped_by = Some(error),
                Err(error) => {
                    report.failed += 1;
                    if report.failures.len() < BulkCall::KEPT {
                        report.failures.push(BulkFailure { instance, error });
                    }
                }
            }
        }
        u32::try_from(requests).unwrap_or(u32::MAX)
    }
}

impl BulkReport {
    /// Returns the report of a call that begins at a token.
    pub(super) fn new(batch: BatchId, next: Option<PageToken>) -> Self {
        Self { batch, done: 0, skipped: 0, failed: 0, failures: Vec::new(), next, stopped_by: None }
    }
}

/// A request for an action on all instances that match a filter: [`Client::bulk`]. Nothing happens before
/// [`run`](Self::run).
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct BulkCall {
    client: Client,
    filter: Filter,
    action: BulkAction,
    rate: u32,
    after: Option<PageToken>,
}

/// The instances that a [`BulkCall`] would concern.
#[derive(Debug)]
#[non_exhaustive]
pub struct BulkPreview {
    /// Their numbers, by status and version: also of those with a status on which the action has no effect.
    pub groups: Groups,
    /// The first 20, newest first.
    pub first: Vec<Status>,
    /// The effects of a reset on these, in their order: the dry run of each, or the reason why it is not reset. Empty for other
    /// actions.
    pub plans: Vec<Result<CutPlan, ClientError>>,
}

/// The state of a [`BulkCall`] that runs, or its result.
#[derive(Debug)]
#[non_exhaustive]
pub struct BulkReport {
    /// The batch: the entries of the audit name it.
    pub batch: BatchId,
    /// The number of instances on which the action was carried out.
    pub done: u64,
    /// The number of matching instances on which the action has no effect: their status is another one, perhaps since they
    /// were listed.
    pub skipped: u64,
    /// The number of instances on which the action failed.
    pub failed: u64,
    /// The first 1,000 failures.
    pub failures: Vec<BulkFailure>,
    /// The token with which another call continues ([`BulkCall::after`]). `None`: all instances were reached.
    pub next: Option<PageToken>,
    /// The failure of the storage that has ended the call early.
    pub stopped_by: Option<ClientError>,
}

/// An instance on which an action failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct BulkFailure {
    /// The instance.
    pub instance: InstanceId,
    /// The error.
    pub error: ClientError,
}

impl Client {
    /// Prepares an action on all instances that match a filter. An empty filter matches all, so look at a
    /// [`preview`](BulkCall::preview) first.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use duroxide::client::BulkAction;
    /// use duroxide::prelude::*;
    /// use duroxide::provider::Filter;
    ///
    /// async fn resume_all(client: &Client) -> duroxide::Result<()> {
    ///     let suspended = Filter { statuses: vec![InstanceStatus::Suspended], ..Filter::default() };
    ///     let call = client.bulk(suspended, BulkAction::Resume).rate(50);
    ///     for group in call.preview().await?.groups.groups {
    ///         println!("{:?}: {}", group.key, group.count);
    ///     }
    ///     let report = call
    ///         .run_with(|report| {
    ///             println!("{} resumed", report.done);
    ///             ControlFlow::Continue(())
    ///         })
    ///         .await?;
    ///     report.failures.iter().for_each(|failure| eprintln!("{}: {}", failure.instance, failure.error));
    ///     Ok(())
    /// }
    /// ```
    pub fn bulk(&self, filter: Filter, action: BulkAction) -> BulkCall {
        BulkCall { client: self.clone(), filter, action, rate: BulkCall::RATE, after: None }
    }
}

impl BulkCall {
    /// The default of [`rate`](Self::rate).
    const RATE: u32 = 200;
    /// The number of instances in a preview.
    const SHOWN: usize = 20;
    /// The largest number of instances that are listed at once, and that of failures that are kept.
    pub(super) const PAGE: u32 = 200;
    const KEPT: usize = 1000;
    /// The number of actions that are under way at once.
    const AT_ONCE: usize = 16;

    /// Sets the number of actions per second, on average. Zero counts as one. Default: 200.
    pub fn rate(self, per_second: u32) -> Self {
        Self { rate: per_second.max(1), ..self }
    }

    /// Continues an earlier call, from its [`BulkReport::next`].
    pub fn after(self, token: impl Into<Option<PageToken>>) -> Self {
        Self { after: token.into(), ..self }
    }

    /// Counts the instances by status and version, and lists the first 20, with the dry run of each if they are to be reset.
    /// Changes nothing.
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, or it does not list instances
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn preview(&self) -> Result<BulkPreview, ClientError> {
        let by = [Dimension::Status, Dimension::Version];
        let groups = self.client.groups(Subject::Instances, &self.filter, &by).await?;
        let first = self.client.list(&self.filter, Self::SHOWN).await?.instances;
        let plans = self.plans(&first).await?;
        Ok(BulkPreview { groups, first, plans })
    }

    /// Returns the dry runs of a reset.
    async fn plans(&self, instances: &[Status]) -> Result<Vec<Result<CutPlan, ClientError>>, ClientError> {
        let BulkAction::Reset { to, keep_outcomes } = &self.action else { return Ok(Vec::new()) };
        let mut plans = Vec::with_capacity(instances.len());
        for status in instances {
            let handle = Handle::of(&self.client, status.execution.instance.clone());
            match reset(&handle, to, *keep_outcomes).dry_run().await {
                Err(error) if error.is_storage_failure() => return Err(error),
                plan => plans.push(plan),
            }
        }
        Ok(plans)
    }

    /// Carries out the action on all instances.
    ///
    /// # Errors
    /// As [`run_with`](Self::run_with).
    ///
    /// # Cancel safety
    /// As [`run_with`](Self::run_with).
    pub async fn run(self) -> Result<BulkReport, ClientError> {
        self.run_with(|_| ControlFlow::Continue(())).await
    }

    /// Carries out the action on all instances, newest first, and calls `progress` after each part, about four times per
    /// second. On [`ControlFlow::Break`] it stops; [`BulkReport::next`] continues it.
    ///
    /// An instance that arrives in the meantime is not concerned. A failure of one instance is listed in the report. If the
    /// storage fails for longer than the retry time of the client, the call stops.
    ///
    /// If the client has a note, or the action is an erasure, the entry of each action names the batch: that of the note, or
    /// a new one. Two entries with the action `bulk` record the beginning, with the filter, and the end, with the numbers and the
    /// token.
    ///
    /// # Errors
    /// [`ClientError`], before the first action: the storage fails, it does not list instances
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)), or the runtime of the client has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, actions that are under way may be carried out or not; no others follow. The token of the
    /// last report that `progress` was given continues the call. Actions are then repeated for some instances, which
    /// cancels, wakes or resets them twice, and has no effect otherwise.
    pub async fn run_with(
        mut self,
        mut progress: impl FnMut(&BulkReport) -> ControlFlow<()>,
    ) -> Result<BulkReport, ClientError> {
        self.client.check_running(None)?;
        if self.action == BulkAction::Erase {
            self.client = self.client.noted();
        }
        let batch = self.client.note.as_ref().and_then(|note| note.batch).unwrap_or_else(BatchId::new);
        self.client.note = self.client.note.map(|note| std::sync::Arc::new((*note).clone().batch(batch)));
        let next = self.after.take();
        let mut report = BulkReport::new(batch, next);
        self.record(&format!("{} of {}", self.action.described(), described(&self.filter))).await?;
        let (begun, mut requests) = (Instant::now(), 0_u32);
        let limit = (self.rate / 4).clamp(1, Self::PAGE);
        loop {
            let page = Page::new(limit as usize).after(report.next.clone());
            let list = match self.client.list(&self.filter, page).await {
                Ok(list) => list,
                Err(error) if report.done + report.skipped + report.failed == 0 => return Err(error),
                Err(error) => {
                    report.stopped_by = Some(error);
                    break;
                }
            };
            requests = requests.saturating_add(self.action.apply_to(&self.client, list.instances, &mut report).await);
            if report.stopped_by.is_some() {
                break;
            }
            report.next = list.next;
            if progress(&report).is_break() || report.next.is_none() {
                break;
            }
            tokio::time::sleep_until(begun + Duration::from_secs(1) / self.rate * requests).await;
        }
        let BulkReport { done, skipped, failed, next, .. } = &report;
        let rest = next.as_ref().map(|token| format!(", continues at {token}")).unwrap_or_default();
        let end = format!("{}: {done} done, {skipped} skipped, {failed} failed{rest}", self.action.name());
        // The actions are carried out. A missing last entry must not hide the report.
        if let Err(error) = self.record(&end).await {
            tracing::warn!(%error, %batch, "could not record the end of a bulk action");
        }
        Ok(report)
    }

    async fn record(&self, detail: &str) -> Result<(), ClientError> {
        let act = Act { reason: self.action.reason(), detail: Some(detail), ..Act::named("bulk") };
        self.client.record_done(act).await
    }
}

/// Returns the reset of one instance.
fn reset(handle: &Handle<Untyped>, to: &CutPoint, keep_outcomes: bool) -> ResetCall {
    let reset = handle.reset(to.clone());
    if keep_outcomes { reset.keep_outcomes() } else { reset }
}

/// Returns true if an action has no effect on an instance: it has ended, was removed or runs again since it was listed, or
/// its history has nothing that a reset looks for.
fn has_no_effect(error: &ClientError) -> bool {
    let codes = [ErrorCode::InstanceLive, ErrorCode::NoCutPoint];
    error.is_finished() || error.is_not_found() || codes.contains(&error.code())
}

/// Describes a filter for the audit: all fields that are set.
fn described(filter: &Filter) -> String {
    // Without `..`: if a field were left out, the audit would name more instances than were concerned.
    let Filter {
        name,
        statuses,
        labels,
        created_from,
        created_before,
        parent,
        parent_identity,
        id_prefix,
        id_contains,
        version,
        node,
        finished_from,
        finished_before,
        updated_from,
        updated_before,
        waits,
        cause,
        suspension,
    } = filter;
    let statuses: Vec<_> = statuses.iter().map(ToString::to_string).collect();
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let time = |time: &Option<Timestamp>| time.map(|time| time.to_string());
    let parts = [
        ("name", name.clone()),
        ("status", (!statuses.is_empty()).then(|| statuses.join("|"))),
        ("labels", (!labels.is_empty()).then(|| labels.join(","))),
        ("created from", time(created_from)),
        ("created before", time(created_before)),
        ("parent", parent.as_ref().map(ToString::to_string)),
        ("identity of the parent", parent_identity.map(|identity| identity.to_string())),
        ("id", id_prefix.as_ref().map(|prefix| format!("{prefix}.."))),
        ("text in the id", id_contains.clone()),
        ("version", version.as_ref().map(ToString::to_string)),
        ("node", node.map(|node| node.to_string())),
        ("finished from", time(finished_from)),
        ("finished before", time(finished_before)),
        ("updated from", time(updated_from)),
        ("updated before", time(updated_before)),
        ("waits", waits.as_ref().map(|waits| waits.exact().unwrap_or_else(|| format!("{}..", waits.kind.prefix())))),
        ("cause", cause.clone()),
        ("suspension", suspension.map(|code| code.to_string())),
    ];
    let parts = parts.into_iter().filter_map(|(part, value)| Some(format!("{part} {}", value?)));
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { "all instances".to_owned() } else { format!("instances with {}", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    #[test]
    fn each_field_of_a_filter_is_described() {
        let (name, time) = (|text: &str| Some(text.to_owned()), |n: i64| Some(Timestamp::from_micros(n * 1_000_000)));
        let filter = Filter {
            name: name("flow"),
            statuses: vec![InstanceStatus::Running, InstanceStatus::Failed],
            labels: [("customer".to_owned(), "c77".to_owned())].into(),
            created_from: time(1),
            created_before: time(2),
            parent: Some(InstanceId::new("batch").expect("valid")),
            parent_identity: Some(crate::id::Identity::UNKNOWN),
            id_prefix: name("order-"),
            id_contains: name("17"),
            version: Some(semver::Version::new(2, 0, 0)),
            node: Some(Epoch(7)),
            finished_from: time(3),
            finished_before: time(4),
            updated_from: time(5),
            updated_before: time(6),
            waits: Some(crate::history::WaitsFilter::event("Approval")),
            cause: name("gateway #"),
            suspension: Some(ErrorCode::Paused),
        };
        let at = |n| format!("1970-01-01T00:00:0{n}.000Z");
        let text = format!(
            "instances with name flow; status running|failed; labels customer=c77; created from {}; created before {}; \
             parent batch; identity of the parent 00000000-0000-0000-0000-000000000000; id order-..; text in the id 17; \
             version 2.0.0; node 7; finished from {}; finished before {}; updated from {}; updated before {}; waits e:Approval; cause gateway #; suspension DUR0010",
            at(1),
            at(2),
            at(3),
            at(4),
            at(5),
            at(6)
        );
        assert_eq!(described(&filter), text);
        let waits = Some(crate::history::AwaitedKind::Event.into());
        assert_eq!(described(&Filter { waits, ..Filter::default() }), "instances with waits e..");
        assert_eq!(described(&Filter::default()), "all instances");
    }
}
