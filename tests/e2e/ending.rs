//! Ends from outside: they reach every live instance, whatever it does, and activities whose code does not stop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{InstanceStatus, MemoryProvider, Provider};
use duroxide::sqlite::SqliteProvider;
use duroxide::{Client, RuntimeBuilder};
use tokio::time::timeout;

/// Fails a test that would wait for ever.
async fn soon<F: IntoFuture>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future.into_future()).await.expect("it does not end")
}

fn on(provider: impl Provider) -> RuntimeBuilder {
    Runtime::builder()
        .provider(provider)
        .state(std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0)))
        .state(crate::continue_as_new::Gates::default())
        .state(crate::faults::Work::default())
        .state(crate::runtime::Gate::default())
        .state(support::Faults::default())
}

fn sqlite(folder: &Path) -> SqliteProvider {
    SqliteProvider::open(folder.join("ending.db")).unwrap()
}

#[event(name = "ending-finish")]
struct Finish;

#[orchestration(name = "ending-not-durable", allow = "this misuse is the subject of the test")]
async fn not_durable(ctx: OrchestrationContext) -> duroxide::Result<()> {
    drop(ctx);
    std::future::pending().await
}

#[orchestration(name = "ending-sleeps")]
async fn sleeps(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(Duration::MAX).await;
    Ok(())
}

/// Ends the loops of [`spins`] when the tests have ended, so that no thread outlives them.
static STOP: AtomicBool = AtomicBool::new(false);

#[orchestration(name = "ending-spins", allow = "this misuse is the subject of the test")]
async fn spins(ctx: OrchestrationContext) -> duroxide::Result<()> {
    while !STOP.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    ctx.sleep(Duration::MAX).await;
    Ok(())
}

const CHILDREN: [&str; 4] = ["ending-sleeps", "ending-not-durable", "ending-spins", "ending-unregistered"];

/// Starts a child that starts a child of each kind, and ends before them.
#[orchestration(name = "ending-grandparent")]
async fn grandparent(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let _child = parent::call(&ctx).on_parent_close(ClosePolicy::Terminate).id("parent").start();
    ctx.event::<Finish>().await;
    Ok(())
}

#[orchestration(name = "ending-parent")]
async fn parent(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let child = |name: &&str| {
        let child = ctx.call_orchestration::<()>(name, &()).id(*name);
        child.on_parent_close(ClosePolicy::Terminate).start()
    };
    let _children: Vec<_> = CHILDREN.iter().map(child).collect();
    ctx.event::<Number>().await;
    Ok(())
}

async fn check_terminated_children(provider: impl Provider + Clone, parent_is_suspended: bool) {
    let runtime = on(provider.clone()).start().await.unwrap();
    let client = runtime.client();
    let first = grandparent::start(&client, "grandparent").await.unwrap();
    for id in CHILDREN.iter().chain(&["parent"]) {
        while client.handle(id).status().await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    soon(client.handle("ending-not-durable").wait_for(|status| status.suspension.is_some())).await.unwrap();
    if parent_is_suspended {
        let parent = client.handle("parent");
        parent.raise_named("ending-number", &"of another type").await.unwrap();
        soon(parent.wait_for(|status| status.suspension.is_some())).await.unwrap();
    }
    first.raise(Finish).await.unwrap();
    soon(first.result()).await.unwrap();
    for id in CHILDREN.iter().chain(&["parent"]) {
        let ended = timeout(Duration::from_secs(20), client.handle(id).wait()).await;
        assert_eq!(ended.map_err(|_| *id).unwrap().unwrap(), InstanceStatus::Terminated, "{id}");
    }
    STOP.store(true, Ordering::SeqCst);
    runtime.shutdown().await.unwrap();
    STOP.store(false, Ordering::SeqCst);
}

#[tokio::test]
async fn close_policy_terminates_children_in_any_state() {
    for parent_is_suspended in [false, true] {
        check_terminated_children(MemoryProvider::new(), parent_is_suspended).await;
        let folder = tempfile::tempdir().unwrap();
        check_terminated_children(sqlite(folder.path()), parent_is_suspended).await;
    }
}

#[tokio::test]
async fn instance_with_a_damaged_status_is_terminated_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let provider = sqlite(folder.path());
    let client = Client::new(provider.clone());
    let handle = sleeps::start(&client, "damaged").await.unwrap();
    let raw = rusqlite::Connection::open(folder.path().join("ending.db")).unwrap();
    raw.execute("UPDATE duroxide_instances SET status = 'asleep'", []).unwrap();
    handle.terminate("damaged").await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), InstanceStatus::Terminated);
    handle.delete().await.unwrap();
    assert!(handle.status().await.is_err());
}

#[event(name = "ending-number")]
struct Number {
    n: u32,
}

#[orchestration(name = "ending-adds")]
async fn adds(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(ctx.event::<Number>().await.n + ctx.event::<Number>().await.n)
}

#[tokio::test]
async fn cancel_of_a_suspended_instance_does_not_wait_behind_bad_events() {
    let runtime = on(MemoryProvider::new()).start().await.unwrap();
    let handle = adds::start(&runtime.client(), "cancelled").await.unwrap();
    handle.raise_named("ending-number", &"of another type").await.unwrap();
    soon(handle.wait_for(|status| status.suspension.is_some())).await.unwrap();
    handle.cancel("enough").await.unwrap();
    handle.resume().await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), InstanceStatus::Cancelled);
    runtime.shutdown().await.unwrap();
}
