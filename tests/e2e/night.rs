//! The night shift: among a hundred thousand instances, some do not advance, each for another reason. `why` names each
//! reason, and `groups` shows the many that have one cause as one row.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duroxide::client::{Blame, Note, WhyState};
use duroxide::history::WaitsFilter;
use duroxide::prelude::*;
use duroxide::provider::*;
use duroxide::sqlite::{Durability, SqliteOptions, SqliteProvider};
use duroxide::{ErrorCode, Registry};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// Instances that have ended, and instances that are stuck by one cause.
const ENDED: u32 = 100_000;
const STUCK: u64 = 412;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum ChargeError {
    Gateway(String),
}

#[activity(name = "night-charge", retry(max_attempts = 5, initial_interval = "1h"))]
async fn charge(order: u32) -> Result<(), ChargeError> {
    Err(ChargeError::Gateway(format!("order-{order}: status 503")))
}

#[orchestration(name = "night-checkout")]
async fn checkout(ctx: OrchestrationContext, order: u32) -> duroxide::Result<()> {
    charge::call(&ctx, order).await.map_err(|error| duroxide::Error::new(format!("{error:?}")))
}

#[activity(name = "night-print")]
async fn print() -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "night-ship")]
async fn ship(ctx: OrchestrationContext) -> duroxide::Result<()> {
    Ok(print::call(&ctx).tag("warehouse").await?)
}

#[event(name = "night-approval")]
struct Approval {}

#[orchestration(name = "night-approve")]
async fn approve(ctx: OrchestrationContext) -> duroxide::Result<()> {
    select! {
        _ = ctx.event::<Approval>() => Ok(()),
        _ = ctx.sleep(days(3)) => Err(duroxide::Error::new("not approved")),
    }
}

/// True once the code of [`report`] was changed while an instance of it waits.
static CHANGED: AtomicBool = AtomicBool::new(false);

#[orchestration(name = "night-report")]
async fn report(ctx: OrchestrationContext) -> duroxide::Result<()> {
    if CHANGED.load(Ordering::Relaxed) {
        ctx.sleep(days(1)).await;
    }
    ctx.event::<Approval>().await;
    Ok(())
}

#[orchestration(name = "night-rest")]
async fn rest(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(days(1)).await;
    Ok(())
}

#[orchestration(name = "night-done")]
async fn done(_: OrchestrationContext) -> duroxide::Result<()> {
    Ok(())
}

/// Counts the failed attempts that the storage has recorded.
struct FailedAttempts {
    inner: SqliteProvider,
    recorded: watch::Sender<u64>,
}

impl ProviderLayer for FailedAttempts {
    fn inner(&self) -> &dyn Provider {
        &self.inner
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        Box::pin(async move {
            let is_retry: Vec<_> = entries.iter().map(|entry| matches!(entry.write, Write::Retry { .. })).collect();
            let results = self.inner.commit(lease, entries).await?;
            let retried = results.iter().zip(is_retry).filter(|(result, is_retry)| result.is_ok() && *is_retry).count();
            self.recorded.send_modify(|recorded| *recorded += retried as u64);
            Ok(results)
        })
    }
}

/// Starts a node, with the number of the failed attempts that it has recorded.
async fn runtime(path: &Path) -> (Runtime, watch::Receiver<u64>) {
    let options = SqliteOptions::new().durability(Durability::Relaxed);
    let provider = SqliteProvider::open_with(path, options).unwrap();
    let registry = Registry::empty()
        .with_activity::<charge>()
        .with_activity::<print>()
        .with_orchestration::<checkout>()
        .with_orchestration::<ship>()
        .with_orchestration::<approve>()
        .with_orchestration::<report>()
        .with_orchestration::<rest>()
        .with_orchestration::<done>();
    let (recorded, failed_attempts) = watch::channel(0);
    let layer = Layered(FailedAttempts { inner: provider, recorded });
    let runtime = Runtime::builder().provider(layer).registry(registry).tags(["office"]).start().await.unwrap();
    (runtime, failed_attempts)
}

/// Adds many copies of an instance that has ended.
fn multiply(path: &Path, ended: &str) {
    let raw = rusqlite::Connection::open(path).unwrap();
    let columns: Vec<String> = raw
        .prepare("SELECT name FROM pragma_table_info('duroxide_instances') WHERE name NOT IN ('seq', 'id', 'start_id')")
        .and_then(|mut find| find.query_map([], |row| row.get(0))?.collect())
        .unwrap();
    let columns: Vec<_> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    let columns = columns.join(", ");
    let insert = format!(
        "INSERT INTO duroxide_instances (id, start_id, {columns})
         WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         SELECT 'ended-' || n, randomblob(16), {columns} FROM n, duroxide_instances WHERE id = ?2"
    );
    raw.execute(&insert, (ENDED, ended)).unwrap();
}

/// Returns the number of items of a subject that have a cause.
async fn caused(client: &Client, of: Subject) -> u64 {
    let groups = client.groups(of, &unfinished(), &[Dimension::Cause]).await.unwrap().groups;
    groups.iter().filter(|group| group.key != [None]).map(|group| group.count).sum()
}

fn unfinished() -> Filter {
    Filter { statuses: vec![InstanceStatus::Running, InstanceStatus::Suspended], ..Filter::default() }
}

#[tokio::test]
async fn each_stuck_instance_is_explained_among_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let (first, mut failed_attempts) = runtime(&path).await;
    let client = first.client();
    done::start(&client, "done").await.unwrap().result().await.unwrap();
    multiply(&path, "done");
    let start = |order| checkout::start(&client, format!("order-{order}"), order).into_future();
    let starts = (0..u32::try_from(STUCK).unwrap()).map(start);
    futures_util::future::try_join_all(starts).await.unwrap();
    ship::start(&client, "ship-17").await.unwrap();
    approve::start(&client, "approve-17").await.unwrap();
    report::start(&client, "report-17").await.unwrap();
    rest::start(&client, "rest-17").await.unwrap();
    let ana = client.clone().with_note(Note::by("ana"));
    rest::handle(&ana, "rest-17").suspend("gateway migration").await.unwrap();
    failed_attempts.wait_for(|recorded| *recorded == STUCK).await.unwrap();
    assert_eq!(caused(&client, Subject::Activities).await, STUCK);
    first.shutdown().await.unwrap();

    CHANGED.store(true, Ordering::Relaxed);
    let (second, _) = runtime(&path).await;
    let client = second.client();
    let changed = report::handle(&client, "report-17");
    changed.raise(Approval {}).await.unwrap();
    changed.wait_for(|status| status.status == InstanceStatus::Suspended).await.unwrap();
    assert_eq!(caused(&client, Subject::Instances).await, STUCK + 2, "with the pause and the code that has changed");

    let list = async |filter: Filter| {
        let page = client.list(&filter, Page::new(1_000)).await.unwrap();
        assert!(page.complete && page.next.is_none(), "{filter:?}");
        (page.instances, page.searched)
    };
    // The 412 are one row, which leads to each of them.
    let groups = client.groups(Subject::Instances, &unfinished(), &[Dimension::Name, Dimension::Cause]).await.unwrap();
    let largest = groups.groups.iter().filter(|group| group.key[1].is_some()).max_by_key(|group| group.count).unwrap();
    let cause = "Gateway: #: status #";
    assert_eq!((&largest.key[1], largest.count), (&Some(cause.to_owned()), STUCK), "{groups:?}");
    let (stuck, searched) = list(Filter { cause: Some(cause.to_owned()), ..Filter::default() }).await;
    assert_eq!((stuck.len() as u64, searched), (STUCK, STUCK), "the others are not read");
    let waits = stuck[0].waits.as_ref().unwrap();
    assert_eq!((waits.text.as_str(), waits.until), ("a:night-charge", None));

    let why = client.why(&stuck[7].execution.instance).await.unwrap();
    assert_eq!(why.state, WhyState::BackingOff);
    assert!(why.text.contains("`night-charge` failed once"), "{why}");
    assert!(why.text.contains("status 503"), "{why}");

    let why = client.why("ship-17").await.unwrap();
    assert_eq!((why.state, why.blame), (WhyState::Unclaimed, Blame::Config));
    assert!(
        why.text.starts_with("No live node has been able to run activity night-print with tag warehouse for "),
        "{why}"
    );

    let (inbox, searched) =
        list(Filter { waits: Some(WaitsFilter::event("night-approval")), ..Filter::default() }).await;
    let ids: Vec<_> = inbox.iter().map(|status| status.execution.instance.as_str()).collect();
    assert_eq!((&ids[..], searched), (&["report-17", "approve-17"][..], 2));
    let why = client.why("approve-17").await.unwrap();
    assert_eq!(
        (why.state, why.blame, why.since),
        (WhyState::Event, Blame::Human, Some(inbox[1].waits.clone().unwrap().since))
    );
    assert_eq!(why.until, inbox[1].waits.as_ref().unwrap().until);

    let (suspended, _) = list(Filter { suspension: Some(ErrorCode::Nondeterminism), ..Filter::default() }).await;
    assert_eq!(suspended.len(), 1);
    assert!(suspended[0].cause.as_ref().unwrap().starts_with("DUR0001: "), "{:?}", suspended[0].cause);
    let why = client.why("report-17").await.unwrap();
    assert_eq!((why.state, why.blame), (WhyState::Suspended, Blame::Code));
    assert!(why.text.starts_with("It is suspended: DUR0001 "), "{why}");

    let (paused, _) = list(Filter { suspension: Some(ErrorCode::Paused), ..Filter::default() }).await;
    assert_eq!(paused.len(), 1);
    let why = client.why("rest-17").await.unwrap();
    assert_eq!((why.state, why.blame), (WhyState::Paused, Blame::Human));
    assert!(why.text.starts_with("Paused by ana ") && why.text.contains("\"gateway migration\""), "{why}");
    second.shutdown().await.unwrap();
}
