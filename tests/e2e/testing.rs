//! The runtime for tests: mocks, time, crashes, and reasons for a failed test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duroxide::Registry;
use duroxide::prelude::*;
use duroxide::testing::{TestRuntime, TestRuntimeBuilder};

/// The activities of a program, in a module of their own.
mod bank {
    use duroxide::prelude::*;

    #[activity]
    pub(crate) async fn pays_two_inputs(account: String, cents: u64) -> duroxide::Result<String> {
        unreachable!("would pay {cents} from {account}")
    }

    #[activity(retry(max_attempts = 3))]
    pub(crate) async fn pays_in_vain(cents: u64) -> duroxide::Result<()> {
        unreachable!("would pay {cents}")
    }
}

#[orchestration]
async fn pays(ctx: OrchestrationContext, account: String) -> duroxide::Result<String> {
    Ok(bank::pays_two_inputs::call(&ctx, account, 500).await?)
}

/// Pays every hour, and never ends.
#[orchestration]
async fn pays_every_hour(ctx: OrchestrationContext) -> duroxide::Result<()> {
    loop {
        ctx.sleep(hours(1)).await;
        bank::pays_two_inputs::call(&ctx, "Ada".to_owned(), 1).await?;
    }
}

/// Returns a builder whose payments add up the cents.
fn with_payments() -> (TestRuntimeBuilder, Arc<AtomicU64>) {
    let paid = Arc::new(AtomicU64::new(0));
    let total = paid.clone();
    let builder = TestRuntime::builder().require_mocks().mock::<bank::pays_two_inputs>(move |input| {
        total.fetch_add(input.cents, Ordering::SeqCst);
        Ok(format!("{} {}", input.account, input.cents))
    });
    (builder, paid)
}

#[tokio::test]
async fn mock_reads_the_inputs_of_an_activity_of_another_module() {
    let test = with_payments().0.start().await.unwrap();
    let handle = pays::start(&test.client(), "pays", "Ada".to_owned()).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "Ada 500");
}

#[tokio::test]
async fn mock_can_wait() {
    let (answer, mut answers) = tokio::sync::watch::channel(None::<String>);
    answers.mark_unchanged();
    let mock = move |_: ActivityContext, input: <bank::pays_two_inputs as Activity>::Input| {
        let mut answers = answers.clone();
        async move {
            let answer = answers.wait_for(Option::is_some).await.unwrap().clone();
            Ok(format!("{} {}", answer.unwrap(), input.cents))
        }
    };
    let test = TestRuntime::builder().mock_async::<bank::pays_two_inputs>(mock).require_mocks().start().await.unwrap();
    let handle = pays::start(&test.client(), "pays", "Ada".to_owned()).await.unwrap();
    answer.send_replace(Some("Bob".to_owned()));
    assert_eq!(handle.result().await.unwrap(), "Bob 500");
}

#[tokio::test]
async fn time_passes_for_an_instance_that_never_ends() {
    let (builder, paid) = with_payments();
    let test = builder.start().await.unwrap();
    pays_every_hour::start(&test.client(), "cron").await.unwrap();
    test.sleep(days(3)).await;
    assert_eq!(paid.load(Ordering::SeqCst), 72);
    test.sleep(minutes(59)).await;
    assert_eq!(paid.load(Ordering::SeqCst), 72);
    test.sleep(minutes(1)).await;
    assert_eq!(paid.load(Ordering::SeqCst), 73);
    assert_eq!(test.client().now().to_string(), "2020-01-04T01:00:00.000Z");
}

#[tokio::test]
async fn crash_keeps_the_clock_and_the_mocks() {
    let (builder, paid) = with_payments();
    let mut test = builder.start().await.unwrap();
    pays_every_hour::start(&test.client(), "cron").await.unwrap();
    for hours_passed in 1..=3 {
        test.sleep(hours(1)).await;
        let code = Registry::empty().with::<pays_every_hour>().with::<bank::pays_two_inputs>();
        test = test.crash().registry(code).start().await.unwrap();
        assert_eq!(paid.load(Ordering::SeqCst), hours_passed);
    }
    assert_eq!(test.client().now().to_string(), "2020-01-01T03:00:00.000Z");
}

#[tokio::test]
#[should_panic(expected = "activity `pays_in_vain` was called but has no mock")]
async fn activity_without_a_mock_fails_the_test() {
    #[orchestration]
    async fn pays_without_mock(ctx: OrchestrationContext) -> duroxide::Result<()> {
        // The orchestration would hide the failure.
        let _ = bank::pays_in_vain::call(&ctx, 500).await;
        Ok(())
    }
    let test = with_payments().0.start().await.unwrap();
    let handle = pays_without_mock::start(&test.client(), "pays").await.unwrap();
    // The instance may finish before the test waits for it.
    let _ = handle.result().await;
    test.shutdown().await.unwrap();
}

#[event]
struct NeverSent;

#[orchestration]
async fn awaits_two_events(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.event::<NeverSent>().await;
    ctx.event::<NeverSent>().await;
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "- stalls (awaits_two_events) waits for event `NeverSent`")]
async fn wait_that_cannot_end_fails_the_test() {
    let test = with_payments().0.stall_limit(Duration::from_millis(50)).start().await.unwrap();
    let handle = awaits_two_events::start(&test.client(), "stalls").await.unwrap();
    handle.raise(NeverSent).await.unwrap();
    let _ = handle.result().await;
}
