use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext, State(fee): State<u32>) -> Result<u32, String> {
    Ok(fee)
}

fn main() {}
