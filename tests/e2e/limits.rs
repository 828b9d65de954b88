//! Limits of sizes: the error of a value beyond a limit names the limit, the value and the option.

use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::runtime::Limits;
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

#[tokio::test]
async fn client_without_a_runtime_has_limits_of_its_own() {
    let client = Client::new(MemoryProvider::new());
    let large = "x".repeat(3 * 1024 * 1024);
    let error = measures::start(&client, "large", large.clone(), 1).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::PayloadTooLarge);
    assert!(error.to_string().contains("`Client::with_limits`"), "{error}");
    let client = client.with_limits(Limits::default().payload(4 * 1024 * 1024));
    measures::start(&client, "large", large, 1).await.unwrap();
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
    let test = test.crash().options(RuntimeOptions::default()).build_id("wide").start().await.unwrap();
    assert_eq!(sleeps_often::handle(&test.client(), "beyond").result().await.unwrap(), 100);
}

/// More than any text may have.
const LONG: usize = 20 * 1024 * 1024;

/// The limit of a reason or a message, in bytes.
const MESSAGE: usize = 16 * 1024;

fn long() -> String {
    "é".repeat(LONG / 2)
}

#[tokio::test]
async fn long_reasons_are_refused() {
    let test = crate::started().await;
    let handle = sleeps_often::start(&test.client(), "sleeps", 10).await.unwrap();
    let refused = [handle.cancel(long()).await.unwrap_err(), handle.terminate(long()).await.unwrap_err()];
    for error in refused {
        assert_eq!(error.code(), ErrorCode::PayloadTooLarge, "{error}");
        assert!(error.to_string().contains("20971520") && error.to_string().contains("16384"), "{error}");
        assert!(error.to_string().len() < 1000, "the reason is not repeated");
    }
    assert!(!handle.status().await.unwrap().status.is_finished());
    let longest = "x".repeat(MESSAGE);
    handle.cancel(&longest).await.unwrap();
    match handle.result().await {
        Err(OutcomeError::Cancelled { reason }) => assert_eq!(reason, longest),
        other => panic!("{other:?}"),
    }
}

#[activity]
async fn panics_at_length(n: u32) -> duroxide::Result<u32> {
    std::panic::panic_any(if n == 0 { String::new() } else { long() })
}

#[activity]
async fn fails_at_length(n: u32) -> duroxide::Result<u32> {
    Err(duroxide::Error::new(if n == 0 { String::new() } else { long() }))
}

#[orchestration]
async fn ends_at_length(ctx: OrchestrationContext, how: String) -> duroxide::Result<u64> {
    match how.as_str() {
        "panic" => std::panic::panic_any(long()),
        "error" => Err(duroxide::Error::new(long())),
        "activity" => Ok(panics_at_length::call(&ctx, 1).await?.into()),
        "activity error" => Ok(fails_at_length::call(&ctx, 1).await?.into()),
        "activity name" => ctx.call_activity::<u64>(&long(), &()).await.map_err(duroxide::Error::new),
        "child name" => ctx.call_orchestration::<u64>(&long(), &()).await.map_err(duroxide::Error::new),
        "child id" => Ok(sleeps_often::call(&ctx, 1).id(long()).await?),
        "child version" => Ok(sleeps_often::call(&ctx, 1).version(long()).await?),
        "valid version" => Ok(sleeps_often::call(&ctx, 1).version(format!("1.0.0-{}", "a".repeat(LONG))).await?),
        "tag" => Ok(panics_at_length::call(&ctx, 0).tag(long()).await?.into()),
        other => Err(duroxide::Error::new(other)),
    }
}

#[tokio::test]
async fn long_texts_of_user_code_are_cut_visibly_or_refused() {
    let test = crate::started().await;
    let ways = [
        ("panic", "bytes are left out"),
        ("activity", "bytes are left out"),
        ("error", "20971"),
        ("activity error", "20971"),
        ("activity name", "the limit is 128"),
        ("child name", "the limit is 128"),
        ("child id", "the limit is 255"),
        ("child version", "the limit is 128"),
        ("valid version", "the limit is 128"),
        ("tag", "the limit is 128"),
    ];
    for (how, part) in ways {
        let handle = ends_at_length::start(&test.client(), how, how.to_owned()).await.unwrap();
        let error = handle.result().await.unwrap_err().to_string();
        assert!(error.contains(part), "{how}: {}", error.chars().take(500).collect::<String>());
        for event in handle.history().await.unwrap() {
            let kind = format!("{:?}", event.kind);
            assert!(kind.len() + event.payload.len() <= 2 * MESSAGE, "{how}: an event of {} bytes", kind.len());
        }
    }
}

#[tokio::test]
async fn long_panic_says_how_much_is_left_out() {
    let test = crate::started().await;
    let handle = ends_at_length::start(&test.client(), "panics", "panic".to_owned()).await.unwrap();
    let Err(OutcomeError::Panicked { message, .. }) = handle.result().await else { panic!("it panics") };
    let kept = message.trim_end_matches(|c| c != 'é').len();
    assert!(message.len() <= MESSAGE && kept > MESSAGE - 100, "{} bytes, {kept} of the panic", message.len());
    assert!(message.ends_with(&format!("[{} bytes are left out]", LONG - kept)), "{}", &message[kept..]);
}

#[orchestration]
async fn awaits_long_name(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.event_named::<()>(&long()).await;
    Ok(())
}

#[tokio::test]
async fn wait_for_an_event_that_cannot_be_raised_suspends() {
    let test = crate::started().await;
    let handle = awaits_long_name::start(&test.client(), "waits").await.unwrap();
    let suspension = handle.wait_for(|status| status.suspension.is_some()).await.unwrap().suspension.unwrap();
    assert_eq!(suspension.code, ErrorCode::InvalidId, "{suspension}");
    assert!(suspension.to_string().contains("the limit is 128"), "{suspension}");
    assert!(suspension.place.is_some_and(|place| place.contains("limits.rs")));
}

#[tokio::test]
async fn texts_of_a_request_have_limits() {
    let test = crate::started().await;
    let client = test.client();
    let start = |id: &str| sleeps_often::start(&client, id, 1);
    let full = (0..64).fold(start("full"), |start, n| start.label(n.to_string(), "a").header(n.to_string(), "a"));
    let handle = full.await.unwrap();
    let refused = [
        (0..65).fold(start("a"), |start, n| start.label(n.to_string(), "a")).await.unwrap_err(),
        (0..65).fold(start("b"), |start, n| start.header(n.to_string(), "a")).await.unwrap_err(),
        start("c").label("a", long()).await.unwrap_err(),
        start("d").header(long(), "a").await.unwrap_err(),
        start("e").version(format!("1.0.0-{}", "a".repeat(LONG))).await.unwrap_err(),
        start("f").version(long()).await.unwrap_err(),
        client.start(&long(), "g", &()).await.unwrap_err(),
        client.start("sleeps_often", long(), &()).await.unwrap_err(),
        handle.raise_named(&long(), &()).await.unwrap_err(),
        (0..65).fold(handle.raise_named("a", &()), |raise, n| raise.header(n.to_string(), "a")).await.unwrap_err(),
    ];
    for (n, error) in refused.iter().enumerate() {
        let text = error.to_string();
        assert_eq!(error.code(), ErrorCode::InvalidId, "{n}: {text:.500}");
        assert!(text.contains("limit is") && text.len() < 1000, "{n}: {text:.500}");
    }
}

#[tokio::test]
async fn names_of_a_runtime_have_limits() {
    for builder in [crate::builder().build_id(long()), crate::builder().tags([long()])] {
        let error = builder.start().await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::NotConfigured, "{error:.500}");
        assert!(error.to_string().contains("the limit is 128") && error.to_string().len() < 1000, "{error:.500}");
    }
}
