use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    tokio::spawn(async {});
    Ok(())
}

fn main() {}
