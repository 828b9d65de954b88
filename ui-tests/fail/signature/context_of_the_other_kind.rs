use duroxide::prelude::*;

#[activity]
async fn charge(ctx: OrchestrationContext) -> Result<(), String> {
    Ok(())
}

#[orchestration]
async fn checkout(ctx: ActivityContext) -> Result<(), String> {
    Ok(())
}

fn main() {}
