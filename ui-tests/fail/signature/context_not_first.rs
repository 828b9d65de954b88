use duroxide::prelude::*;

#[orchestration]
async fn checkout(order: u32, ctx: OrchestrationContext) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
