use duroxide::prelude::*;

#[orchestration(version = "1.0")]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    Ok(())
}

fn main() {}
