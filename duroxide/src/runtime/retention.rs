//! Removes finished instances by their age, in the background.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::node::NodeHandle;
use crate::provider::{Admin, Filter, Page, Provider, ProviderError};

/// The ages at which finished instances are removed, and executions that were continued as new:
/// [`RuntimeBuilder::retention`](super::RuntimeBuilder::retention).
///
/// ```
/// use duroxide::prelude::*;
/// use duroxide::runtime::Retention;
///
/// let retention = Retention::new().finished(days(90)).of("heartbeat", days(1)).keep("ledger").audit(days(365));
/// # let _ = retention;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Retention {
    finished: Option<Duration>,
    /// By the name of the orchestration. `None`: never.
    by_name: BTreeMap<String, Option<Duration>>,
    audit: Option<Duration>,
    interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self::new()
    }
}

impl Retention {
    const INTERVAL: Duration = Duration::from_secs(3600);
    /// The most removals of one batch.
    const BATCH: usize = 100;

    /// Returns a retention that removes nothing.
    pub const fn new() -> Self {
        Self { finished: None, by_name: BTreeMap::new(), audit: None, interval: Self::INTERVAL }
    }

    /// Sets the age for the orchestrations that are registered with the runtime, except those with an age of their own.
    pub fn finished(self, age: Duration) -> Self {
        Self { finished: Some(age), ..self }
    }

    /// Sets the age for one orchestration by its name. It need not be registered with the runtime.
    pub fn of(mut self, name: impl Into<String>, age: Duration) -> Self {
        self.by_name.insert(name.into(), Some(age));
        self
    }

    /// Keeps the instances of one orchestration forever.
    pub fn keep(mut self, name: impl Into<String>) -> Self {
        self.by_name.insert(name.into(), None);
        self
    }

    /// Sets the age at which entries of the audit are removed.
    pub fn audit(self, age: Duration) -> Self {
        Self { audit: Some(age), ..self }
    }

    /// Sets the time between two passes, at least one second. Default: one hour.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_secs(1)), ..self }
    }

    /// Returns true if anything may be removed.
    pub(super) fn is_set(&self) -> bool {
        self.finished.is_some() || self.audit.is_some() || self.by_name.values().any(Option::is_some)
    }

    /// Returns the names with their ages.
    fn rules(&self, registered: &[String]) -> BTreeMap<String, Duration> {
        let default = registered.iter().map(|name| (name.clone(), self.finished));
        let mut rules: BTreeMap<_, _> = default.collect();
        rules.extend(self.by_name.clone());
        rules.into_iter().filter_map(|(name, age)| Some((name, age?))).collect()
    }
}

/// The removals of a runtime. They stop when this is dropped.
pub(super) struct Removals(tokio::task::JoinHandle<()>);

impl Drop for Removals {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The parts of a runtime that its removals need.
pub(super) struct Remover {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: NodeHandle,
    pub(super) retention: Retention,
    /// The names of the registered orchestrations.
    pub(super) registered: Vec<String>,
}

impl Remover {
    pub(super) fn spawn(self) -> Removals {
        Removals(tokio::spawn(self.run()))
    }

    async fn run(self) {
        loop {
            if let Some(admin) = self.provider.admin()
                && let Err(error) = self.pass(admin).await
            {
                tracing::warn!(%error, "instances beyond their retention are not removed; the next pass tries again");
            }
            self.clock.sleep_until(self.clock.now() + self.retention.interval).await;
        }
    }

    /// Removes everything that is due, if this node is the oldest member: one node at a time does so. A change of the members
    /// may let two of them do so for a moment, which is harmless.
    async fn pass(&self, admin: &dyn Admin) -> Result<(), ProviderError> {
        let oldest = admin.nodes().await?.into_iter().next().map(|node| node.epoch);
        if oldest != Some(self.node.lease().epoch) {
            return Ok(());
        }
        let now = self.clock.now();
        for (name, age) in self.retention.rules(&self.registered) {
            let filter = Filter { name: Some(name), ..Filter::default() };
            let mut page = Page::new(Retention::BATCH).time_limit(Duration::from_secs(1));
            loop {
                let begun = Instant::now();
                let pruned = admin.prune(&filter, now - age, &page).await?;
                if pruned.executions > 0 {
                    let (orchestration, executions) = (&filter.name, pruned.executions);
                    tracing::debug!(orchestration, executions, "removed instances beyond their retention");
                }
                page.after = pruned.next;
                if page.after.is_none() {
                    break;
                }
                rest(begun).await;
            }
        }
        if let Some(age) = self.retention.audit {
            let mut begun = Instant::now();
            while admin.prune_audit(now - age, Retention::BATCH).await? == Retention::BATCH as u64 {
                rest(begun).await;
                begun = Instant::now();
            }
        }
        Ok(())
    }
}

/// Pauses for as long as the last batch took, so that removals use half of the time of the storage at most.
async fn rest(begun: Instant) {
    tokio::time::sleep(begun.elapsed()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Note;
    use crate::provider::{AuditQuery, MemoryProvider, ProviderLayer};
    use crate::{Client, InstanceStatus, Runtime};

    /// A store with finished instances and entries of the audit: more than fit into a batch.
    const MANY: usize = 2 * Retention::BATCH + 50;

    async fn node(provider: &MemoryProvider) -> Runtime {
        let registry = crate::Registry::empty();
        Runtime::builder().provider(provider.clone()).registry(registry).start().await.expect("start")
    }

    fn remover(node: &Runtime, provider: impl Provider, retention: Retention) -> Remover {
        let (clock, node) = (Arc::new(crate::clock::SystemClock), node.node.handle().clone());
        Remover { provider: Arc::new(provider), clock, node, retention, registered: vec!["brief".to_owned()] }
    }

    /// Starts instances that no node runs, and terminates them, unless they stay live.
    async fn add(client: &Client, name: &str, count: usize, is_live: bool) {
        for n in 0..count {
            let handle = client.start(name, format!("{name}-{n}"), &()).await.expect("start");
            if !is_live {
                handle.terminate("done").await.expect("terminate");
            }
        }
    }

    async fn left(client: &Client, name: &str) -> usize {
        let filter = Filter { name: Some(name.to_owned()), ..Filter::default() };
        client.list(&filter, 1000).await.expect("list").instances.len()
    }

    async fn entries(client: &Client) -> usize {
        client.audit(&AuditQuery::default(), 1000).await.expect("audit").entries.len()
    }

    #[tokio::test]
    async fn pass_removes_all_that_is_due_and_nothing_else() {
        let provider = MemoryProvider::new();
        let node = node(&provider).await;
        let client = Client::new(provider.clone());
        for (name, is_live) in [("brief", false), ("kept", false), ("young", false), ("unregistered", false)] {
            add(&client, name, 3, is_live).await;
        }
        add(&client, "brief-live", 1, true).await;
        client.start("brief", "brief-open", &()).await.expect("start");
        let retention = Retention::new().finished(Duration::ZERO).keep("kept").of("young", Duration::from_secs(3600));
        let mut remover = remover(&node, provider.clone(), retention);
        remover.registered = ["brief", "kept", "young", "brief-live"].map(str::to_owned).to_vec();
        remover.pass(&provider).await.expect("pass");
        let live = client.handle("brief-open").status().await.expect("status").status;
        assert_eq!((left(&client, "brief").await, live), (1, InstanceStatus::Running));
        for (name, count) in [("kept", 3), ("young", 3), ("unregistered", 3), ("brief-live", 1)] {
            assert_eq!(left(&client, name).await, count, "{name}");
        }
        node.shutdown().await.expect("shutdown");
    }

    #[tokio::test]
    async fn pass_continues_after_the_first_batch() {
        let provider = MemoryProvider::new();
        let node = node(&provider).await;
        let client = Client::new(provider.clone()).with_note(Note::by("ana"));
        add(&client, "brief", MANY, false).await;
        let old = Duration::from_secs(3600);
        remover(&node, provider.clone(), Retention::new().finished(old).audit(old))
            .pass(&provider)
            .await
            .expect("pass");
        assert_eq!((left(&client, "brief").await, entries(&client).await), (MANY, 2 * MANY), "nothing is so old");
        let retention = Retention::new().finished(Duration::ZERO).audit(Duration::ZERO);
        remover(&node, provider.clone(), retention).pass(&provider).await.expect("pass");
        assert_eq!((left(&client, "brief").await, entries(&client).await), (0, 0));
        node.shutdown().await.expect("shutdown");
    }

    #[tokio::test]
    async fn only_the_oldest_member_removes() {
        let provider = MemoryProvider::new();
        let (first, second) = (node(&provider).await, node(&provider).await);
        let client = Client::new(provider.clone());
        add(&client, "brief", 1, false).await;
        let remover = remover(&second, provider.clone(), Retention::new().finished(Duration::ZERO));
        remover.pass(&provider).await.expect("pass");
        assert_eq!(left(&client, "brief").await, 1);
        first.shutdown().await.expect("shutdown");
        remover.pass(&provider).await.expect("pass");
        assert_eq!(left(&client, "brief").await, 0);
        second.shutdown().await.expect("shutdown");
    }

    /// A provider whose drop is seen.
    struct Seen(MemoryProvider, #[expect(dead_code, reason = "its drop is seen")] tokio::sync::oneshot::Sender<()>);

    impl ProviderLayer for Seen {
        fn inner(&self) -> &dyn Provider {
            &self.0
        }
    }

    #[tokio::test]
    async fn removals_end_with_their_runtime() {
        let provider = MemoryProvider::new();
        let node = node(&provider).await;
        let (sender, dropped) = tokio::sync::oneshot::channel();
        let layer = crate::provider::Layered(Seen(provider.clone(), sender));
        let removals = remover(&node, layer, Retention::new().finished(Duration::ZERO)).spawn();
        tokio::task::yield_now().await;
        drop(removals);
        assert!(dropped.await.is_err(), "the task has ended, and released the storage");
        node.shutdown().await.expect("shutdown");
    }
}
