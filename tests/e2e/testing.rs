//! The runtime for tests: mocks, time, crashes, and reasons for a failed test.

use duroxide::testing::TestRuntime;

/// The activities of a program, in a module of their own.
mod bank {
    use duroxide::prelude::*;

    #[activity]
    pub(crate) async fn pays_two_inputs(account: String, cents: u64) -> duroxide::Result<String> {
        unreachable!("would pay {cents} from {account}")
    }

    #[orchestration]
    pub(crate) async fn pays(ctx: OrchestrationContext, account: String) -> duroxide::Result<String> {
        Ok(pays_two_inputs::call(&ctx, account, 500).await?)
    }
}

#[tokio::test]
async fn mock_reads_the_inputs_of_an_activity_of_another_module() {
    let builder = crate::builder().mock::<bank::pays_two_inputs>(|input| Ok(format!("{} {}", input.account, input.cents)));
    let test: TestRuntime = builder.start().await.unwrap();
    let handle = bank::pays::start(&test.client(), "pays", "Ada".to_owned()).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "Ada 500");
}
