use duroxide::prelude::*;

#[orchestration(timeout = "30s")]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    Ok(())
}

fn main() {}
