use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    tokio::join!(ctx.sleep(days(1)), ctx.sleep(days(2)));
    Ok(())
}

fn main() {}
