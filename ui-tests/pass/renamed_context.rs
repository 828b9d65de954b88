//! A context whose type has another name is recognised by the name of its parameter.
use duroxide::OrchestrationContext as Flow;
use duroxide::prelude::*;

type Ctx = ActivityContext;

#[activity]
async fn attempt(ctx: Ctx, add: u32) -> Result<u32, String> {
    Ok(ctx.attempt() + add)
}

#[activity]
fn blocking_attempt(_ctx: Ctx, add: u32) -> Result<u32, String> {
    Ok(add)
}

#[orchestration]
async fn checkout(ctx: Flow, add: u32) -> duroxide::Result<u32> {
    Ok(attempt::call(&ctx, add).await? + blocking_attempt::call(&ctx, add).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::builder().in_memory().start().await.expect("the runtime starts");
    let handle = checkout::start(&runtime.client(), "one", 20).await.expect("it starts");
    assert_eq!(handle.result().await.expect("it succeeds"), 41);
    runtime.shutdown().await.expect("the runtime stops");
}
