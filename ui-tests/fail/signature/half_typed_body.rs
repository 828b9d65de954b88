use duroxide::prelude::*;

#[activity]
async fn charge(order: u32) -> Result<u32, String> {
    let total = order.
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<u32, String> {
    charge::call(&ctx, 1).await.map_err(|_| String::new())
}

fn main() {}
