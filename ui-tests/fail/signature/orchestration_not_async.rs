use duroxide::prelude::*;

#[orchestration]
fn checkout(ctx: OrchestrationContext, order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
