//! Code that does not return: the report of its node shows it, and `Client::why` names it.

use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use duroxide::client::{Action, Blame, Fact, WhyState};
use duroxide::prelude::*;
use duroxide::provider::*;
use duroxide::sqlite::SqliteProvider;
use duroxide::{Registry, RuntimeOptions};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// A door behind which code blocks its thread, until it is opened.
struct Door(Mutex<Option<mpsc::Receiver<()>>>);

impl Door {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Closes the door. It opens when the sender is dropped.
    fn close(&self) -> mpsc::Sender<()> {
        let (open, closed) = mpsc::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(closed);
        open
    }

    fn pass(&self) {
        let closed = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let opened = closed.map(|closed| closed.recv());
        assert!(!matches!(opened, Some(Ok(()))), "nothing is sent through it");
    }
}

static TURN: Door = Door::new();
static ATTEMPT: Door = Door::new();

#[activity(name = "stuck-prepare")]
async fn prepare() -> duroxide::Result<()> {
    Ok(())
}

#[activity(name = "stuck-blocks")]
async fn blocks() -> duroxide::Result<()> {
    ATTEMPT.pass();
    Ok(())
}

#[orchestration(name = "stuck-report")]
async fn report(ctx: OrchestrationContext) -> duroxide::Result<()> {
    prepare::call(&ctx).await?;
    TURN.pass();
    blocks::call(&ctx).await?;
    Ok(())
}

/// Shows the reports that the storage has received.
struct Reports {
    inner: SqliteProvider,
    received: watch::Sender<NodeReport>,
}

impl ProviderLayer for Reports {
    fn inner(&self) -> &dyn Provider {
        &self.inner
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        Box::pin(async move {
            let renewal = self.inner.renew(lease, report).await;
            self.received.send_replace(report.clone());
            renewal
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_names_the_code_that_does_not_return() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, mut received) = watch::channel(NodeReport::default());
    let layer = Reports { inner: SqliteProvider::open(folder.path().join("shop.db")).unwrap(), received: sender };
    let registry = Registry::empty().with_activity::<prepare>().with_activity::<blocks>();
    let short = Duration::from_millis(50);
    let runtime = Runtime::builder()
        .provider(Layered(layer))
        .registry(registry.with_orchestration::<report>())
        .options(RuntimeOptions::new().turn_warning(short).activity_warning(short).lease_time(Duration::from_secs(1)))
        .start()
        .await
        .unwrap();
    let client = runtime.client();
    let (turn, attempt) = (TURN.close(), ATTEMPT.close());
    let handle = report::start(&client, "report-17").await.unwrap();

    received.wait_for(|report| !report.stuck.is_empty()).await.unwrap();
    let why = client.why("report-17").await.unwrap();
    let node = client.nodes().await.unwrap().swap_remove(0);
    assert_eq!((why.state, why.blame), (WhyState::StuckTurn, Blame::Code), "{why}");
    assert!(why.text.starts_with("Its turn has not returned for "), "{why}");
    let place = format!(" on {}, after tests/e2e/stuck.rs:", node.info.name);
    assert!(why.text.contains(&place) && why.text.ends_with(" (DUR0006)."), "{why}");
    assert_eq!(why.actions, [Action::RestartNode(node.info.name.clone()), Action::Terminate]);
    assert!(matches!(&why.facts[..], [Fact::Node(_), Fact::Stuck(_)]), "{:?}", why.facts);
    assert_eq!((node.report.live, node.report.attempts, node.report.stuck.len()), (1, 0, 1));
    let created = handle.status().await.unwrap().created_at;
    assert!(why.since >= Some(created) && node.seen_at >= Some(created), "{:?} {:?}", why.since, node.seen_at);
    // The report is one of a turn that has returned, so it no longer concerns the instance.
    drop(turn);

    let is_attempt = |stuck: &StuckCode| matches!(stuck.code, RunningCode::Attempt { .. });
    received.wait_for(|report| report.stuck.iter().any(is_attempt)).await.unwrap();
    let why = client.why("report-17").await.unwrap();
    assert_eq!((why.state, why.blame), (WhyState::Running, Blame::Code), "{why}");
    assert!(
        why.text.contains("`stuck-blocks` runs on ") && why.text.contains(" It has blocked its thread for "),
        "{why}"
    );
    assert_eq!(client.nodes().await.unwrap()[0].report.attempts, 1);

    drop(attempt);
    handle.result().await.unwrap();
    received.wait_for(|report| *report == NodeReport::default()).await.unwrap();
    assert_eq!(client.nodes().await.unwrap()[0].report, NodeReport::default());
    runtime.shutdown().await.unwrap();
}
