//! The reason why an instance does not advance: `Client::why` and `Client::inspect`.

use std::time::Duration;

use duroxide::client::{Action, Blame, Fact, WhyState};
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

#[activity(name = "why-reads")]
async fn reads(_number: u32) -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "why-writes")]
async fn writes(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.call_activity(reads::NAME, "no number").await.map_err(duroxide::Error::new)
}

#[tokio::test]
async fn stuck_instance_says_why() {
    let test = started().await;
    let client = test.client();
    let stuck = retries::start(&client, "why-1").await.unwrap();
    test.sleep(Duration::ZERO).await;
    let why = client.why("why-1").await.unwrap();
    assert_eq!(why.state, WhyState::BackingOff);
    assert!(why.text.starts_with("`why-fails` failed once 0 ms ago: `gateway 503`. Attempt 2 of 5 at 20"), "{why}");
    assert_eq!(why.blame, Blame::Code);
    assert!(stuck.result().await.is_err());
    let failed = client.inspect("why-1").await.unwrap().activities.failed;
    assert_eq!(failed.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(client.why("why-1").await.unwrap().state, WhyState::Ended);

    parent::start(&client, "why-2").await.unwrap();
    test.sleep(Duration::ZERO).await;
    let why = client.why("why-2").await.unwrap();
    let cause = "It waits for `why-child`: It has been waiting for event `why-word` for 0 ms, at tests/e2e/why.rs:";
    assert!(why.text.starts_with(cause), "{why}");
    assert_eq!(why.chain.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["why-2", "why-child"]);
    assert_eq!(why.actions[0], Action::Raise("why-word".to_owned()));
    test.shutdown().await.unwrap();
}

#[tokio::test]
async fn events_that_an_instance_has_not_read_are_named() {
    let test = started().await;
    let client = test.client();
    let handle = waits::start(&client, "why-unread").await.unwrap();
    handle.raise_named("why-wrod", &1).await.unwrap();
    test.sleep(Duration::ZERO).await;
    handle.raise_named("why-wrod", &2).await.unwrap();
    test.sleep(Duration::ZERO).await;
    let why = client.why("why-unread").await.unwrap();
    assert!(why.text.starts_with("It has been waiting for event `why-word`"), "{why}");
    assert!(why.text.ends_with(" Unread: 2 `why-wrod`."), "{why}");
    let is_named = |fact: &Fact| matches!(fact, Fact::Unread { event, count: 2, .. } if event == "why-wrod");
    assert!(why.facts.iter().any(is_named), "{:?}", why.facts);
    let inspection = client.inspect("why-unread").await.unwrap();
    let unread: Vec<_> = inspection.unread.iter().map(|events| (events.name.as_str(), events.count)).collect();
    assert_eq!((unread, inspection.more_messages), (vec![("why-wrod", 2)], false));

    // More than are read at once.
    let many = waits::start(&client, "why-many").await.unwrap();
    many.suspend("held").await.unwrap();
    for n in 0..1001 {
        many.raise_named("why-wrod", &n).await.unwrap();
    }
    let inspection = client.inspect("why-many").await.unwrap();
    assert_eq!((inspection.unread[0].count, inspection.more_messages), (1000, true));

    handle.raise(Word {}).await.unwrap();
    handle.result().await.unwrap();
    assert!(client.inspect("why-unread").await.unwrap().unread.is_empty());
}

#[tokio::test]
async fn delayed_start_says_when_it_begins() {
    let test = started().await;
    let client = test.client();
    let begins = client.now() + hours(1);
    waits::start(&client, "why-later").delay(hours(1)).await.unwrap();
    let why = client.why("why-later").await.unwrap();
    assert_eq!((why.state, why.until), (WhyState::NotBegun, Some(begins)));
    assert!(why.text.starts_with(&format!("It begins at {begins} (in 1 h)")), "{why}");
    assert_eq!(why.actions[0], Action::Wake);
    client.handle("why-later").wake().await.unwrap();
    test.sleep(Duration::ZERO).await;
    assert_eq!(client.why("why-later").await.unwrap().state, WhyState::Event);
}

#[tokio::test]
async fn parked_activity_is_named() {
    let test = started().await;
    let client = test.client();
    writes::start(&client, "why-parked").await.unwrap();
    test.sleep(Duration::ZERO).await;
    let why = client.why("why-parked").await.unwrap();
    assert_eq!((why.state, why.blame), (WhyState::Parked, Blame::Code));
    assert!(why.text.starts_with("Its activity `why-reads` is parked: DUR0024 activity call 1: "), "{why}");
    assert!(why.at.as_deref().is_some_and(|at| at.starts_with("tests/e2e/why.rs:")), "{:?}", why.at);
}
