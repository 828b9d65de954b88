use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = std::fs::read_to_string("order.json");
    Ok(())
}

fn main() {}
