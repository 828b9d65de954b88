//! The [`Provider`] and [`Admin`] of a database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::Timestamp;
use duroxide::clock::Clock;
use duroxide::id::{Epoch, EventId, ExecutionId, InstanceId};
use duroxide::provider::{
    Acquired, Admin, AuditEntry, AuditPage, AuditQuery, BuildRecord, Commit, CommitError, Committed, DeleteError,
    DepartedNode, Dimension, EventPreviews, Filter, Groups, HistoryPage, HistoryQuery, InstanceActivities,
    InstancePage, InstanceRecord, InstanceRows, Lease, MessagePreviews, NodeInfo, NodeRecord, NodeReport, Page,
    Provider, ProviderError, Pruned, Renewal, Subject, Submission, SubmitError, Submitted, Transactional, Wakeups,
    Want,
};
use futures_util::future::BoxFuture;

use crate::acquire;
use crate::admin;
use crate::attempts;
use crate::audit;
use crate::batch::{self, Answer, Request};
use crate::connect::Shared;
use crate::groups;
use crate::handle::{self, Handle};
use crate::instance_rows;
use crate::members::{self, SWEEP, departed};
use crate::options::PostgresOptions;
use crate::previews;
use crate::reads;
use crate::state::State;
use crate::watches;

/// A provider that keeps its state in a PostgreSQL database. Cheap to clone; its thread and its connections end when the
/// last clone is dropped.
#[derive(Clone)]
pub struct PostgresProvider {
    handle: Arc<Handle>,
}

/// The longest time of one removal of old ids.
const EXPIRE: Duration = Duration::from_millis(500);

impl PostgresProvider {
    /// Opens a database. Creates the schema `duroxide` if it does not exist, and migrates an older one.
    ///
    /// # Errors
    /// A [`ProviderError`] if the URL cannot be read, the database cannot be reached or refuses the connection, or its schema
    /// has a newer version.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt. A schema that was created stays.
    pub async fn connect(url: impl Into<String>) -> Result<Self, ProviderError> {
        Self::connect_with(PostgresOptions::new(url)).await
    }

    /// Like [`PostgresProvider::connect`], with options.
    ///
    /// # Errors
    /// As [`PostgresProvider::connect`], and if the name of the schema is not an identifier.
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_with(options: PostgresOptions) -> Result<Self, ProviderError> {
        Ok(Self { handle: Arc::new(Handle::open(options).await?) })
    }

    /// Creates the schema if it does not exist, migrates an older one, and opens nothing else.
    ///
    /// With it a role that owns the schema migrates it before the programs start, which then need no right to change tables:
    /// the page [PostgreSQL] has the roles and their rights. A newer schema is left as it is, so an older program may call
    /// this, too.
    ///
    /// [PostgreSQL]: https://github.com/duroxide/duroxide/blob/main/docs/postgres.md
    ///
    /// ```no_run
    /// use duroxide_postgres::{PostgresOptions, PostgresProvider};
    ///
    /// # async fn migrate() -> Result<(), duroxide::provider::ProviderError> {
    /// PostgresProvider::migrate(PostgresOptions::new("postgres://shop_owner:secret@db.internal/shop")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with), and if the role may not create or change the tables.
    ///
    /// # Cancel safety
    /// A migration that has begun is not stopped by dropping the future. It is one transaction.
    pub async fn migrate(options: PostgresOptions) -> Result<(), ProviderError> {
        handle::migrate(options).await
    }

    pub(crate) fn state(&self) -> &State {
        &self.handle.state
    }

    async fn sweep(&self, epochs: Vec<Epoch>, within: Duration) -> Result<(), ProviderError> {
        let state = self.handle.state.clone();
        let sweep =
            async move |connection: Shared| members::sweep(&connection, &state, &epochs, Instant::now() + within).await;
        self.handle.lanes.members.call("take over a node", sweep).await
    }

    /// Removes the ids of old requests.
    async fn expire_dedup(&self) {
        const OPERATION: &str = "remove the ids of old requests";
        let expire = async |connection: Shared| members::expire_dedup(&connection, Instant::now() + EXPIRE).await;
        if let Err(error) = self.handle.lanes.members.call(OPERATION, expire).await {
            tracing::debug!(%error, "the ids of old requests are removed later");
        }
    }

    async fn write(&self, operation: &'static str, requests: Vec<Request>) -> Result<Vec<Answer>, ProviderError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.handle.state.check_may_write(operation)?;
        let (entries, answered) = batch::call(operation, requests);
        self.handle.lanes.batches.send(entries);
        answered.await.map_err(|_| ProviderError::retryable(operation, "the request was not answered"))?
    }
}

impl std::fmt::Debug for PostgresProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let schema = &self.handle.state.database.schema;
        f.debug_struct("PostgresProvider").field("schema", schema).finish_non_exhaustive()
    }
}

impl Provider for PostgresProvider {
    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        const OPERATION: &str = "join";
        Box::pin(async move {
            self.handle.state.check_may_write(OPERATION)?;
            let (state, info) = (self.handle.state.clone(), node.clone());
            let end = async move |connection: Shared| members::end_before_join(&connection, &state, &info).await;
            let dead = self.handle.lanes.members.call(OPERATION, end).await?;
            if !dead.is_empty() {
                self.sweep(dead, SWEEP).await?;
            }
            let (state, info) = (self.handle.state.clone(), node.clone());
            state.observe_lease_time(node.lease_time);
            let join = async move |connection: Shared| members::join(&connection, &state, &info).await;
            self.handle.lanes.members.call(OPERATION, join).await
        })
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        const RENEW: &str = "renew the lease";
        Box::pin(async move {
            let (state, lease, report) = (self.handle.state.clone(), *lease, report.to_json());
            let renew = async move |connection: Shared| members::renew(&connection, &state, lease, &report).await;
            // A connection that is cut off without a notice must not stop the renewals for longer than the lease allows.
            let limit = self.handle.state.renewal_limit();
            let renewed = self.handle.lanes.renew.call_within(limit, RENEW, renew).await?;
            self.handle.state.check_may_write(RENEW)?;
            if !renewed.dead.is_empty()
                && let Err(error) = self.sweep(renewed.dead, SWEEP.min(renewed.lease_time / 6)).await
            {
                // The renewal itself has succeeded. The next one tries again.
                tracing::warn!(%error, "the items of a dead node are not released yet");
            }
            if renewed.expires {
                self.expire_dedup().await;
            }
            Ok(renewed.renewal)
        })
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move {
            let (state, lease) = (self.handle.state.clone(), *lease);
            let leave = async move |connection: Shared| members::leave(&connection, &state, lease).await;
            let left = self.handle.lanes.members.call("leave", leave).await?;
            self.sweep(left, SWEEP).await
        })
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        const ACQUIRE: &str = "acquire work";
        let (state, lease) = (self.handle.state.clone(), *lease);
        Box::pin(async move {
            state.check_may_write(ACQUIRE)?;
            let acquire = async move |connection: Shared| acquire::acquire(&connection, &state, lease, &want).await;
            self.handle.lanes.ask.call(ACQUIRE, acquire).await
        })
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        Box::pin(async move {
            let request = |commit| Request::Commit { lease: *lease, commit };
            let answers = self.write("commit", entries.into_iter().map(request).collect()).await?;
            Ok(answers.into_iter().filter_map(Answer::committed).collect())
        })
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        Box::pin(async move {
            let answers = self
                .write("submit", entries.into_iter().map(|entry| Request::Submit(Box::new(entry))).collect())
                .await?;
            Ok(answers.into_iter().filter_map(Answer::submitted).collect())
        })
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        let execution = execution.clone();
        let read = async move |connection: Shared| reads::history(&connection, &execution, after).await;
        Box::pin(self.handle.lanes.read.call("read a history", read))
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        Some(Arc::new(self.handle.state.clock.clone()))
    }

    fn watch<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        let instance = instance.clone();
        let state = self.handle.state.clone();
        let watch = async move |connection: Shared| watches::watch(&connection, &state, &instance).await;
        Box::pin(self.handle.lanes.read.call("watch an instance", watch))
    }

    fn instance<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceRecord>, ProviderError>> {
        let (state, instance) = (self.handle.state.clone(), instance.clone());
        let read = async move |connection: Shared| reads::instance(&connection, &state, &instance).await;
        Box::pin(self.handle.lanes.read.call("read an instance", read))
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        Some(self)
    }

    fn wakeups(&self) -> &Wakeups {
        &self.handle.state.wakeups
    }
}

impl Admin for PostgresProvider {
    fn list<'a>(&'a self, filter: &'a Filter, page: &'a Page) -> BoxFuture<'a, Result<InstancePage, ProviderError>> {
        const OPERATION: &str = "list instances";
        Box::pin(async move {
            let before = admin::position(page.after.as_ref(), u64::MAX, OPERATION)?;
            let (filter, limit, deadline) = (filter.clone(), page.limit, admin::deadline(page.time_limit));
            let list = async move |connection: Shared| admin::list(&connection, &filter, before, limit, deadline).await;
            self.handle.lanes.admin.call(OPERATION, list).await
        })
    }

    fn groups<'a>(
        &'a self,
        of: Subject,
        filter: &'a Filter,
        by: &'a [Dimension],
        time_limit: Duration,
    ) -> BoxFuture<'a, Result<Groups, ProviderError>> {
        let (filter, by, deadline) = (filter.clone(), by.to_vec(), admin::deadline(time_limit));
        let count = async move |connection: Shared| groups::groups(&connection, of, &filter, &by, deadline).await;
        Box::pin(self.handle.lanes.admin.call("count groups", count))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRecord>, ProviderError>> {
        let nodes = async |connection: Shared| admin::nodes(&connection).await;
        Box::pin(self.handle.lanes.admin.call("list nodes", nodes))
    }

    fn departed_nodes(&self, limit: usize) -> BoxFuture<'_, Result<Vec<DepartedNode>, ProviderError>> {
        let list = async move |connection: Shared| departed::list(&connection, limit).await;
        Box::pin(self.handle.lanes.admin.call("list departed nodes", list))
    }

    fn builds(&self) -> BoxFuture<'_, Result<Vec<BuildRecord>, ProviderError>> {
        let builds = async |connection: Shared| departed::builds(&connection).await;
        Box::pin(self.handle.lanes.admin.call("list builds", builds))
    }

    fn activities<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<InstanceActivities>, ProviderError>> {
        let instance = instance.clone();
        let read = async move |connection: Shared| attempts::activities(&connection, &instance).await;
        Box::pin(self.handle.lanes.admin.call("read activities", read))
    }

    fn events<'a>(
        &'a self,
        execution: &'a ExecutionId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<EventPreviews, ProviderError>> {
        let (execution, query) = (execution.clone(), *query);
        let read = async move |connection: Shared| previews::read(&connection, &execution, &query).await;
        Box::pin(self.handle.lanes.admin.call("read events", read))
    }

    fn messages<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Option<MessagePreviews>, ProviderError>> {
        let instance = instance.clone();
        let read = async move |connection: Shared| previews::messages(&connection, &instance).await;
        Box::pin(self.handle.lanes.admin.call("read messages", read))
    }

    fn rows<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<Option<InstanceRows>, ProviderError>> {
        let instance = instance.clone();
        let read = async move |connection: Shared| instance_rows::read(&connection, &instance).await;
        Box::pin(self.handle.lanes.admin.call("read rows", read))
    }

    fn delete<'a>(
        &'a self,
        instances: &'a [InstanceId],
        audit: &'a [AuditEntry],
    ) -> BoxFuture<'a, Result<Vec<Result<(), DeleteError>>, ProviderError>> {
        const OPERATION: &str = "delete instances";
        let (state, instances, audit) = (self.handle.state.clone(), instances.to_vec(), audit.to_vec());
        Box::pin(async move {
            state.check_may_write(OPERATION)?;
            let delete = async move |connection: Shared| admin::delete(&connection, &state, &instances, &audit).await;
            self.handle.lanes.admin.call(OPERATION, delete).await
        })
    }

    fn prune<'a>(
        &'a self,
        filter: &'a Filter,
        before: Timestamp,
        batch: &'a Page,
    ) -> BoxFuture<'a, Result<Pruned, ProviderError>> {
        const OPERATION: &str = "prune instances";
        Box::pin(async move {
            self.handle.state.check_may_write(OPERATION)?;
            let after = admin::position(batch.after.as_ref(), 0, OPERATION)?;
            let state = self.handle.state.clone();
            let (filter, from, deadline) = (filter.clone(), (after, batch.limit), admin::deadline(batch.time_limit));
            let prune = async move |connection: Shared| {
                admin::prune(&connection, &state, &filter, before, from, deadline).await
            };
            self.handle.lanes.admin.call(OPERATION, prune).await
        })
    }

    fn record<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<(), ProviderError>> {
        const OPERATION: &str = "write the audit";
        let entries = entries.to_vec();
        Box::pin(async move {
            self.handle.state.check_may_write(OPERATION)?;
            let record = async move |connection: Shared| audit::record(&connection, &entries).await;
            self.handle.lanes.admin.call(OPERATION, record).await
        })
    }

    fn audit<'a>(&'a self, query: &'a AuditQuery, page: &'a Page) -> BoxFuture<'a, Result<AuditPage, ProviderError>> {
        const OPERATION: &str = "list the audit";
        Box::pin(async move {
            let before = admin::position(page.after.as_ref(), u64::MAX, OPERATION)?;
            let (query, limit, deadline) = (query.clone(), page.limit, admin::deadline(page.time_limit));
            let list = async move |connection: Shared| audit::list(&connection, &query, before, limit, deadline).await;
            self.handle.lanes.admin.call(OPERATION, list).await
        })
    }

    fn prune_audit(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, ProviderError>> {
        const OPERATION: &str = "prune the audit";
        Box::pin(async move {
            self.handle.state.check_may_write(OPERATION)?;
            let prune = async move |connection: Shared| audit::prune(&connection, before, limit).await;
            self.handle.lanes.admin.call(OPERATION, prune).await
        })
    }
}
