use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    std::thread::yield_now();
    Ok(())
}

fn main() {}
