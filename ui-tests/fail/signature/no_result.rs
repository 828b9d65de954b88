use duroxide::prelude::*;

#[activity]
async fn charge(order: u32) -> u32 {
    order
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<(), String> {
    let _ = charge::call(&ctx, 1).await;
    Ok(())
}

fn main() {}
