use duroxide::prelude::*;

#[orchestration]
#[tokio::main]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    ctx.sleep(days(1)).await;
    Ok(())
}

fn main() {}
