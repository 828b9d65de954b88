//! Limits of sizes: the error of a value beyond a limit names the limit, the value and the option.

use duroxide::prelude::*;
use duroxide::{ErrorCode, Registry, RuntimeOptions};

#[activity]
async fn repeats(text: String, times: usize) -> duroxide::Result<String> {
    Ok(text.repeat(times))
}

#[orchestration]
async fn measures(ctx: OrchestrationContext, text: String, times: usize) -> duroxide::Result<usize> {
    let long = repeats::call(&ctx, text, times).await?;
    Ok(repeats::call(&ctx, long, 1).await?.len())
}

#[tokio::test]
async fn megabyte_payloads_pass() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::empty().with_activity::<repeats>().with_orchestration::<measures>();
    let runtime = Runtime::builder().registry(registry).sqlite(folder.path().join("large.db")).start().await.unwrap();
    let text = "0123456789".repeat(100_000);
    let handle = measures::start(&runtime.client(), "large", text, 2).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 2_000_000);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn input_beyond_the_limit_is_refused() {
    let mut options = RuntimeOptions::default();
    options.limits.payload = 1000;
    let test = crate::builder().options(options).start().await.unwrap();
    let client = test.client();
    let error = measures::start(&client, "large", "x".repeat(1000), 1).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::PayloadTooLarge);
    for part in ["1000", "limits.payload", "the input"] {
        assert!(error.to_string().contains(part), "{part} is missing: {error}");
    }
    assert!(client.handle("large").status().await.unwrap_err().is_not_found());
    assert_eq!(measures::start(&client, "large", "x".repeat(100), 1).await.unwrap().result().await.unwrap(), 100);
}

#[orchestration]
async fn sleeps_often(ctx: OrchestrationContext, steps: u64) -> duroxide::Result<u64> {
    for _ in 0..steps {
        ctx.sleep(minutes(1)).await;
    }
    Ok(steps)
}

#[tokio::test]
async fn history_beyond_the_limit_suspends_until_it_is_raised() {
    let mut options = RuntimeOptions::default();
    options.limits.history = 50;
    let test = crate::builder().options(options).build_id("narrow").start().await.unwrap();
    let within = sleeps_often::start(&test.client(), "within", 24).await.unwrap();
    assert_eq!(within.result().await.unwrap(), 24);
    let beyond = sleeps_often::start(&test.client(), "beyond", 100).await.unwrap();
    let suspension = beyond.wait_for(|status| status.suspension.is_some()).await.unwrap().suspension.unwrap();
    assert_eq!(suspension.code, ErrorCode::HistoryTooLong);
    assert!(suspension.to_string().contains("50") && suspension.to_string().contains("limits.history"), "{suspension}");
    let clock = test.clock().clone();
    let provider = test.crash();
    let test = crate::builder().build_id("wide").provider(provider).clock(clock).start().await.unwrap();
    assert_eq!(sleeps_often::handle(&test.client(), "beyond").result().await.unwrap(), 100);
}
