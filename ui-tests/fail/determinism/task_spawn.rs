use duroxide::prelude::*;

use tokio::task;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    task::spawn(async {});
    Ok(())
}

fn main() {}
