use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = std::time::SystemTime::now();
    Ok(())
}

fn main() {}
