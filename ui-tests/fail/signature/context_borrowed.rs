use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: &OrchestrationContext) -> Result<(), String> {
    Ok(())
}

fn main() {}
