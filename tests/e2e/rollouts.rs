//! Old and new programs side by side on one store.

use std::sync::{Arc, LazyLock};

use duroxide::id::{EventId, ExecutionId};
use duroxide::prelude::*;
use duroxide::provider::{
    Acquired, Commit, CommitError, Committed, HistoryPage, InstanceStatus, Layered, Lease, MemoryProvider, Provider,
    ProviderError, ProviderLayer, Then, Want, Write,
};
use duroxide::{Client, ErrorCode, Registry};
use futures_util::future::BoxFuture;
use support::{signalling, until_events};
use tokio::sync::watch;

#[event(name = "rollout approval")]
struct Approval;

const OLD: u8 = 0;
/// The version of the old code, with a step before the wait.
const CHANGED: u8 = 1;
/// A later version.
const LATER: u8 = 2;

/// An order by the code of one build. Written without the attribute, since two of them have the same name and version.
enum Order<const CODE: u8> {}

impl<const CODE: u8> Orchestration for Order<CODE> {
    const NAME: &'static str = "order";
    const VERSION: &'static str = if CODE == LATER { "1.1.0" } else { "1.0.0" };
    type Input = ();
    type Output = String;
    type Error = duroxide::Error;
}

impl<const CODE: u8> OrchestrationFn for Order<CODE> {
    async fn run(ctx: OrchestrationContext, (): ()) -> duroxide::Result<String> {
        if CODE == LATER {
            return Ok("later".to_owned());
        }
        if CODE == CHANGED {
            ctx.sleep(std::time::Duration::ZERO).await;
        }
        let Approval = ctx.event().await;
        Ok(if CODE == CHANGED { "changed" } else { "old" }.to_owned())
    }
}

#[orchestration]
async fn customer_with_an_order(ctx: OrchestrationContext) -> duroxide::Result<String> {
    Ok(ctx.call_orchestration("order", &()).await?)
}

fn old_code() -> Registry {
    Registry::empty().with_orchestration::<Order<OLD>>().with_orchestration::<customer_with_an_order>()
}

async fn node(provider: impl Provider, build: &str, registry: Registry) -> Runtime {
    Runtime::builder().provider(signalling(provider)).registry(registry).build_id(build).start().await.unwrap()
}

/// The store of a node whose requests for work wait until a build has rejected an instance.
struct AfterRejection {
    inner: MemoryProvider,
    waits: bool,
    rejected: Arc<watch::Sender<bool>>,
}

fn rejects(commit: &Arc<Commit>) -> bool {
    matches!(&commit.write, Write::Turn(turn) if matches!(turn.then, Then::Suspend { .. }))
}

impl ProviderLayer for AfterRejection {
    fn inner(&self) -> &dyn Provider {
        &self.inner
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        Box::pin(async move {
            if self.waits {
                self.rejected.subscribe().wait_for(|rejected| *rejected).await.expect("the sender is alive");
            }
            self.inner.acquire(lease, want).await
        })
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        let rejects = entries.iter().any(rejects);
        Box::pin(async move {
            let results = self.inner.commit(lease, entries).await;
            if rejects {
                self.rejected.send_replace(true);
            }
            results
        })
    }
}

#[tokio::test]
async fn instance_that_old_code_cannot_replay_is_run_by_new_code() {
    let inner = MemoryProvider::new();
    let rejected = Arc::new(watch::Sender::new(false));
    let store = |waits| Layered(AfterRejection { inner: inner.clone(), waits, rejected: rejected.clone() });
    let changed = || Registry::empty().with_orchestration::<Order<CHANGED>>();
    let first = node(inner.clone(), "new", changed()).await;
    let handle = first.client().start("order", "17", &()).await.unwrap();
    until_events(&handle, 4).await;
    first.shutdown().await.unwrap();

    let _new = node(store(true), "new", changed()).await;
    let _old = node(store(false), "old", old_code()).await;
    let handle = Client::new(inner).handle("17");
    handle.raise(Approval).await.unwrap();
    rejected.subscribe().wait_for(|rejected| *rejected).await.unwrap();
    assert_ne!(handle.status().await.unwrap().status, InstanceStatus::Suspended, "the right code is a member");
    assert_eq!(handle.result_as::<String, duroxide::Error>().await.unwrap(), "changed");
}

#[tokio::test]
async fn start_through_an_old_node_runs_the_latest_version() {
    let provider = MemoryProvider::new();
    let old = node(provider.clone(), "old", old_code()).await;
    let new = node(provider, "new", old_code().with_orchestration::<Order<LATER>>()).await;
    let client = old.client();
    let order = client.start("order", "17", &()).await.unwrap();
    assert_eq!(order.result_as::<String, duroxide::Error>().await.unwrap(), "later");
    let customer = customer_with_an_order::start(&client, "7").version("1.0.0").await.unwrap();
    assert_eq!(customer.result().await.unwrap(), "later", "a child takes it, too");
    new.shutdown().await.unwrap();
    let order = client.start("order", "18", &()).await.unwrap();
    order.raise(Approval).await.unwrap();
    assert_eq!(order.result_as::<String, duroxide::Error>().await.unwrap(), "old", "no other version is live");
}

#[tokio::test]
async fn incompatible_instances_fail_the_start_of_a_checked_build() {
    let provider = MemoryProvider::new();
    let old = node(provider.clone(), "old", old_code()).await;
    for id in ["17", "18", "19"] {
        old.client().start("order", id, &()).await.unwrap();
    }
    let changes = async || {
        let status = old.client().handle("18").status().await.unwrap();
        (status.events, status.updated_at)
    };
    let before = changes().await;
    let start = |registry: Registry, limit| {
        let builder = Runtime::builder().provider(provider.clone()).registry(registry).build_id("new");
        builder.check_live(limit).start()
    };

    let error = start(Registry::empty().with_orchestration::<Order<CHANGED>>(), 2).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::Nondeterminism);
    let ids: Vec<_> = error.incompatible().iter().map(|(instance, _)| instance.as_str()).collect();
    assert_eq!(ids, ["19", "18"], "the newest ones, up to the limit");
    let text = error.to_string();
    assert!(
        text.starts_with("this code cannot continue 2 of 2 checked live instances: 19, 18\n- 19: DUR0001"),
        "{text}"
    );
    assert_eq!(old.client().nodes().await.unwrap().len(), 1, "the node has not joined");
    assert_eq!(changes().await, before, "nothing is written");

    let new = start(old_code().with_orchestration::<Order<LATER>>(), 100).await.unwrap();
    assert_eq!(new.client().nodes().await.unwrap().len(), 2);
    // A build without the version of the instances does not run them.
    start(Registry::empty().with_orchestration::<Order<LATER>>(), 100).await.unwrap();
}

#[tokio::test]
async fn check_of_live_instances_needs_a_provider_that_lists_them() {
    let provider = support::without_admin(MemoryProvider::new());
    let error = Runtime::builder().provider(provider).registry(old_code()).check_live(1).start().await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::AdminNotSupported);
    assert!(error.to_string().contains("live instances cannot be checked"), "{error}");
}

/// A store that returns a history event by event.
struct EventByEvent(MemoryProvider);

impl ProviderLayer for EventByEvent {
    fn inner(&self) -> &dyn Provider {
        &self.0
    }

    fn history<'a>(
        &'a self,
        execution: &'a ExecutionId,
        after: EventId,
    ) -> BoxFuture<'a, Result<HistoryPage, ProviderError>> {
        Box::pin(async move {
            let HistoryPage { mut events, more } = self.0.history(execution, after).await?;
            let more = more || events.len() > 1;
            events.truncate(1);
            Ok(HistoryPage { events, more })
        })
    }
}

/// Resolves when the first wait of [`Waits`] is over.
static WAITED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// Waits twice. The changed code differs after the first wait.
enum Waits<const CODE: u8> {}

impl<const CODE: u8> Orchestration for Waits<CODE> {
    const NAME: &'static str = "waits twice";
    type Input = ();
    type Output = ();
    type Error = duroxide::Error;
}

impl<const CODE: u8> OrchestrationFn for Waits<CODE> {
    async fn run(ctx: OrchestrationContext, (): ()) -> duroxide::Result<()> {
        let Approval = ctx.event().await;
        if CODE == CHANGED {
            return Ok(());
        }
        WAITED.send_replace(true);
        let Approval = ctx.event().await;
        Ok(())
    }
}

#[tokio::test]
async fn check_of_live_instances_replays_all_pages_of_a_history() {
    let provider = MemoryProvider::new();
    let old = node(provider.clone(), "old", Registry::empty().with_orchestration::<Waits<OLD>>()).await;
    let handle = old.client().start("waits twice", "17", &()).await.unwrap();
    handle.raise(Approval).await.unwrap();
    WAITED.subscribe().wait_for(|waited| *waited).await.unwrap();
    // The turn is committed.
    old.shutdown().await.unwrap();
    let start = |registry: Registry| {
        let provider = Layered(EventByEvent(provider.clone()));
        Runtime::builder().provider(provider).registry(registry).build_id("new").check_live(9).start()
    };
    let error = start(Registry::empty().with_orchestration::<Waits<CHANGED>>()).await.err().expect("it differs");
    assert_eq!(error.incompatible().len(), 1, "{error}");
    start(Registry::empty().with_orchestration::<Waits<OLD>>()).await.unwrap();
}

#[tokio::test]
async fn check_of_live_instances_leaves_out_damaged_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checked.db");
    let old = Runtime::builder().sqlite(&path).registry(old_code()).start().await.unwrap();
    old.client().start("order", "17", &()).await.unwrap();
    old.shutdown().await.unwrap();
    let changed = || {
        let registry = Registry::empty().with_orchestration::<Order<CHANGED>>();
        Runtime::builder().sqlite(&path).registry(registry).check_live(9).start()
    };
    assert_eq!(changed().await.err().expect("it differs").incompatible().len(), 1);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE duroxide_instances SET labels = '{'", []).unwrap();
    changed().await.unwrap().shutdown().await.unwrap();
}
