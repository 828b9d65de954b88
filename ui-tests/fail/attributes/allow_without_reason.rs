use duroxide::prelude::*;

#[orchestration(allow = "")]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    Ok(())
}

fn main() {}
