use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = std::env::var("SHOP");
    Ok(())
}

fn main() {}
