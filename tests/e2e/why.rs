//! The reason why an instance does not advance: `Client::why` and `Client::inspect`.

use duroxide::client::{Action, Blame, WhyState};
use duroxide::prelude::*;

use super::started;

#[event(name = "why-word")]
struct Word {}

#[activity(name = "why-fails", retry(max_attempts = 5, initial_interval = "10s"))]
async fn fails() -> duroxide::Result<()> {
    Err(duroxide::Error::new("gateway 503"))
}

#[orchestration(name = "why-retries")]
async fn retries(ctx: OrchestrationContext) -> duroxide::Result<()> {
    Ok(fails::call(&ctx).await?)
}

#[orchestration(name = "why-waits")]
async fn waits(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.event::<Word>().await;
    Ok(())
}

#[orchestration(name = "why-parent")]
async fn parent(ctx: OrchestrationContext) -> duroxide::Result<()> {
    Ok(waits::call(&ctx).id("why-child").await?)
}

#[tokio::test]
async fn stuck_instance_says_why() {
    let test = started().await;
    let client = test.client();
    let stuck = retries::start(&client, "why-1").await.unwrap();
    while client.inspect("why-1").await.unwrap().activities.failed.is_empty() {
        tokio::task::yield_now().await;
    }
    let why = client.why("why-1").await.unwrap();
    assert_eq!(why.state, WhyState::BackingOff);
    assert!(why.text.starts_with("`why-fails` failed once 0 ms ago: `gateway 503`. Attempt 2 of 5 at 20"), "{why}");
    assert_eq!(why.blame, Blame::Code);
    assert!(stuck.result().await.is_err());
    let failed = client.inspect("why-1").await.unwrap().activities.failed;
    assert_eq!(failed.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(client.why("why-1").await.unwrap().state, WhyState::Ended);

    parent::start(&client, "why-2").await.unwrap();
    while client.inspect("why-child").await.is_ok_and(|child| child.waits.is_empty())
        || client.handle("why-child").status().await.is_err()
    {
        tokio::task::yield_now().await;
    }
    let why = client.why("why-2").await.unwrap();
    let cause = "It waits for `why-child`: It has been waiting for event `why-word` for 0 ms, at tests/e2e/why.rs:";
    assert!(why.text.starts_with(cause), "{why}");
    assert_eq!(why.chain.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["why-2", "why-child"]);
    assert_eq!(why.actions[0], Action::Raise("why-word".to_owned()));
    test.shutdown().await.unwrap();
}
