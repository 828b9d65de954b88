//! What was in flight when a process died, again and again.

use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{Cursor, Handlers, MemoryProvider, NodeInfo, Provider, QUARANTINE, Want};
use duroxide::{NodeId, Timestamp};

#[orchestration]
async fn innocent(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    drop(ctx);
    Ok(n)
}

/// A node that takes all it can get, and dies with it.
async fn take_and_die(provider: &MemoryProvider, instances: usize) {
    let version = semver::Version::new(1, 0, 0);
    let node = NodeInfo {
        id: NodeId::new(),
        name: "short-lived".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers { orchestrations: vec![("innocent".to_owned(), version)], ..Handlers::default() },
        lease_time: Duration::from_secs(3600),
    };
    let lease = provider.join(&node).await.unwrap();
    let want = Want {
        orchestrations: node.handlers.orchestrations.into(),
        instances,
        activities: Vec::new(),
        tags: None,
        load: Vec::new(),
        alone: false,
        now: Timestamp::from_micros(i64::MAX / 2),
        cursor: Cursor::default(),
        question: None,
    };
    assert_eq!(provider.acquire(&lease, want).await.unwrap().instances.len(), instances);
    provider.kill(lease.epoch);
}

#[tokio::test]
async fn all_that_crashed_often_together_goes_on_one_by_one() {
    let provider = MemoryProvider::new();
    let client = Client::new(provider.clone());
    for n in 0..20 {
        innocent::start(&client, format!("i-{n}"), n).await.unwrap();
    }
    for _ in 0..QUARANTINE {
        take_and_die(&provider, 20).await;
    }
    innocent::start(&client, "new", 20).await.unwrap();
    let test = crate::builder().provider(provider).start().await.unwrap();
    for n in 0..20 {
        assert_eq!(innocent::handle(&test.client(), format!("i-{n}")).result().await.unwrap(), n);
    }
    assert_eq!(innocent::handle(&test.client(), "new").result().await.unwrap(), 20);
}
