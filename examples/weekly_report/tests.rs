use std::sync::{Arc, Mutex};

use duroxide::testing::{TestRuntime, TestRuntimeBuilder};

use super::*;
use crate::contracts::{fetch, tell};

/// The next version of the report, deployed while an instance waits for the editor.
#[orchestration(name = "weekly_report")]
async fn changed_report(ctx: OrchestrationContext, plan: Plan) -> duroxide::Result<u32> {
    let parts = report::read_sources(&ctx, plan.week).await?;
    let verdict = report::verdict(&ctx, plan).await?;
    tell::call(&ctx, format!("{} parts, {verdict}, by the new code", parts.len())).await?;
    Ok(plan.week)
}

#[tokio::test]
async fn report_survives_a_crash_and_a_deploy() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mocked = |test: TestRuntimeBuilder, program| {
        let told = told.clone();
        let tell = move |line| {
            told.lock().unwrap().push(line);
            Ok(())
        };
        test.registry(program).mock::<tell>(tell).mock_with_context::<fetch>(|ctx, input| {
            match input.source.is_multiple_of(10) && ctx.attempt() < 3 {
                true => Err(duroxide::Error::new("not reachable")),
                false => Ok(input.source.to_string()),
            }
        })
    };
    let program = Registry::empty().with::<weekly_report>();
    let test = mocked(TestRuntime::builder(), program).start().await.unwrap();
    let plan = Plan { week: 1, last_week: 9, day: days(1) };
    weekly_report::start(&test.client(), "report", plan).await.unwrap();

    test.sleep(Duration::from_millis(150)).await; // Some sources have failed once or twice.
    let test = test.crash().start().await.unwrap();
    test.sleep(hours(30)).await;
    assert_eq!(*told.lock().unwrap(), ["report 1 waits for you"; 2]);

    let changed = Registry::empty().with::<changed_report>();
    let test = mocked(test.crash(), changed).start().await.unwrap();
    let report = weekly_report::handle(&test.client(), "report");
    report.raise(Approval { by: "Ada".to_owned() }).await.unwrap();
    assert_eq!(report.result().await.unwrap(), 1);
    assert_eq!(told.lock().unwrap().last().unwrap(), "50 parts, approved by Ada, by the new code");
}
