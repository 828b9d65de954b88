//! Instances and activities that are in flight at each of many crashes.

use std::time::Duration;

use crate::faults::Work;

use duroxide::Timestamp;
use duroxide::id::NodeId;
use duroxide::prelude::*;
use duroxide::provider::{Handlers, MemoryProvider, NodeInfo, Provider, QUARANTINE, Want};

#[orchestration]
async fn returns_input(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    drop(ctx);
    Ok(n)
}

/// Joins as a node, claims this number of instances, and dies with them.
async fn claim_and_die(provider: &MemoryProvider, instances: usize) {
    let version = semver::Version::new(1, 0, 0);
    let node = NodeInfo {
        id: NodeId::new(),
        name: "short-lived".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers { orchestrations: vec![("returns_input".to_owned(), version)], ..Handlers::default() },
        lease_time: Duration::from_secs(3600),
        details: Default::default(),
    };
    let lease = provider.join(&node).await.unwrap();
    let want = Want {
        orchestrations: node.handlers.orchestrations.into(),
        instances,
        ..Want::new(Timestamp::from_micros(i64::MAX / 2))
    };
    assert_eq!(provider.acquire(&lease, want).await.unwrap().instances.len(), instances);
    provider.kill(lease.epoch);
}

#[tokio::test]
async fn instances_that_crashed_together_run_one_by_one() {
    let provider = MemoryProvider::new();
    let client = Client::new(provider.clone());
    for n in 0..20 {
        returns_input::start(&client, format!("i-{n}"), n).await.unwrap();
    }
    for _ in 0..QUARANTINE {
        claim_and_die(&provider, 20).await;
    }
    returns_input::start(&client, "new", 20).await.unwrap();
    let test = crate::builder().provider(provider).start().await.unwrap();
    for n in 0..20 {
        assert_eq!(returns_input::handle(&test.client(), format!("i-{n}")).result().await.unwrap(), n);
    }
    assert_eq!(returns_input::handle(&test.client(), "new").result().await.unwrap(), 20);
}

/// Pauses once, so that the timer may be first.
#[activity]
async fn yields() -> duroxide::Result<()> {
    tokio::task::yield_now().await;
    Ok(())
}

#[activity]
async fn records_winner(State(work): State<Work>, instance: String, winner: String) -> duroxide::Result<()> {
    work.count(format!("{instance}: {winner}"));
    Ok(())
}

#[event(name = "crashes-finish")]
struct Finish;

#[orchestration]
async fn races_a_timer(ctx: OrchestrationContext) -> duroxide::Result<String> {
    let winner = select! {
        arrived = yields::call(&ctx) => arrived.map(|()| "the activity")?,
        () = ctx.sleep(Duration::ZERO) => "the timer",
    };
    records_winner::call(&ctx, ctx.execution().instance.to_string(), winner.to_owned()).await?;
    ctx.event::<Finish>().await;
    Ok(winner.to_owned())
}

#[tokio::test]
async fn race_has_the_same_winner_after_each_of_60_crashes() {
    for round in 0..60 {
        let work = Work::default();
        let test = crate::builder().state(work.clone()).start().await.unwrap();
        let id = format!("race-{round}");
        races_a_timer::start(&test.client(), &id).await.unwrap();
        work.until_done().await;
        let test = test.crash().start().await.unwrap();
        let handle = races_a_timer::handle(&test.client(), &id);
        handle.raise(Finish).await.unwrap();
        let winner = handle.result().await.unwrap();
        // The activity may run again on the next node, with the same winner.
        assert_eq!(work.done().into_keys().collect::<Vec<_>>(), [format!("{id}: {winner}")]);
    }
}
