use duroxide::prelude::*;

use std::time::Instant;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = Instant::now();
    Ok(())
}

fn main() {}
