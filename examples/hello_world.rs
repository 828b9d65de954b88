//! The smallest program: one activity, one orchestration, state in memory.

use duroxide::prelude::*;

/// Does the real work: anything that talks to the world is an activity.
#[activity]
async fn greet(name: String) -> duroxide::Result<String> {
    Ok(format!("hello, {name}"))
}

/// Coordinates: each step that was done is recorded, and never done again.
#[orchestration]
async fn hello(ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
    greet::call(&ctx, name).await.map_err(Into::into)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    tracing_subscriber::fmt::init();
    let runtime = Runtime::builder().in_memory().start().await?;
    let handle = hello::start(&runtime.client(), "first", "world".to_owned()).await?;
    println!("{}", handle.result().await?);
    runtime.shutdown().await
}
