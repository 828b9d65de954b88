use duroxide::prelude::*;

#[activity]
async fn charge(card: &str) -> Result<(), String> {
    Ok(())
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<(), String> {
    charge::call(&ctx, "4111").await.map_err(|_| String::new())
}

fn main() {}
