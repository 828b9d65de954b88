//! What was in flight when a process died, again and again.

use std::time::Duration;

use crate::faults::Work;

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
async fn instances_that_crashed_together_run_one_by_one() {
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

#[activity]
async fn arrives() -> duroxide::Result<()> {
    tokio::task::yield_now().await;
    Ok(())
}

#[activity]
async fn notes(State(work): State<Work>, instance: String, winner: String) -> duroxide::Result<()> {
    work.count(format!("{instance}: {winner}"));
    Ok(())
}

#[event]
struct Tell;

#[orchestration]
async fn judges_a_race(ctx: OrchestrationContext) -> duroxide::Result<String> {
    let winner = select! {
        arrived = arrives::call(&ctx) => arrived.map(|()| "the activity")?,
        () = ctx.sleep(Duration::ZERO) => "the timer",
    };
    notes::call(&ctx, ctx.execution().instance.to_string(), winner.to_owned()).await?;
    ctx.event::<Tell>().await;
    Ok(winner.to_owned())
}

#[tokio::test]
async fn race_has_the_same_winner_after_each_of_60_crashes() {
    for round in 0..60 {
        let work = Work::default();
        let test = crate::builder().state(work.clone()).start().await.unwrap();
        let id = format!("race-{round}");
        judges_a_race::start(&test.client(), &id).await.unwrap();
        while work.done().is_empty() {
            tokio::task::yield_now().await;
        }
        let (provider, clock) = (test.provider().clone(), test.clock().clone());
        test.crash();
        let test = crate::builder().state(work.clone()).provider(provider).clock(clock).start().await.unwrap();
        let handle = judges_a_race::handle(&test.client(), &id);
        handle.raise(Tell).await.unwrap();
        let winner = handle.result().await.unwrap();
        // It may be noted again by the next node, as the same.
        assert_eq!(work.done().into_keys().collect::<Vec<_>>(), [format!("{id}: {winner}")]);
    }
}
