use duroxide::prelude::*;

#[activity]
async fn charge(order: u32, express: bool) -> Result<u32, String> {
    Ok(order + u32::from(express))
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<u32, String> {
    charge::call(ctx, 1, true).await.map_err(|_| String::new())
}

fn main() {}
