//! Finished instances that a runtime removes by their age.

use duroxide::Registry;
use duroxide::client::Note;
use duroxide::prelude::*;
use duroxide::provider::{AuditQuery, MemoryProvider};
use duroxide::runtime::Retention;

#[orchestration(name = "retention-brief")]
async fn brief(_: OrchestrationContext) -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "retention-kept")]
async fn kept(_: OrchestrationContext) -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "retention-other")]
async fn other(_: OrchestrationContext) -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "retention-live")]
async fn live(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(days(1)).await;
    Ok(())
}

fn registry() -> Registry {
    let registry = Registry::empty().with_orchestration::<brief>().with_orchestration::<kept>();
    registry.with_orchestration::<other>().with_orchestration::<live>()
}

#[tokio::test]
async fn finished_instances_are_removed_by_their_age() {
    let provider = MemoryProvider::new();
    let retention = Retention::new().finished(std::time::Duration::ZERO).keep("retention-kept");
    let retention = retention.of("retention-other", days(1)).audit(std::time::Duration::ZERO).interval(seconds(1));
    let node = || Runtime::builder().provider(provider.clone()).registry(registry()).retention(retention.clone());
    let first = node().start().await.unwrap();
    // Only the oldest member removes.
    let second = node().start().await.unwrap();
    let client = second.client().with_note(Note::by("ana"));
    kept::start(&client, "kept").await.unwrap().wait().await.unwrap();
    other::start(&client, "other").await.unwrap().wait().await.unwrap();
    live::start(&client, "live").await.unwrap();
    let handle = brief::start(&client, "brief").await.unwrap();
    handle.wait().await.unwrap();
    // The removal is signalled.
    assert!(handle.wait_for(|_| false).await.unwrap_err().is_not_found());
    for id in ["kept", "other"] {
        assert_eq!(client.handle(id).status().await.unwrap().status, InstanceStatus::Completed);
    }
    assert_eq!(client.handle("live").status().await.unwrap().status, InstanceStatus::Running);
    first.shutdown().await.unwrap();
    // The other node is the oldest member now.
    let handle = brief::start(&client, "brief-2").await.unwrap();
    handle.wait().await.unwrap();
    assert!(handle.wait_for(|_| false).await.unwrap_err().is_not_found());
    let left = client.audit(&AuditQuery::default(), 99).await.unwrap().entries;
    assert!(left.iter().all(|entry| entry.instance.as_ref().is_none_or(|id| id.as_str() == "brief-2")), "{left:?}");
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn retention_needs_a_provider_that_prunes() {
    let provider = support::without_admin(MemoryProvider::new());
    let retention = Retention::new().finished(days(1));
    let error =
        Runtime::builder().provider(provider).registry(registry()).retention(retention).start().await.err().unwrap();
    assert_eq!(error.code(), duroxide::ErrorCode::AdminNotSupported);
}
