use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    use std::time::{Instant as Clock, SystemTime};
    let _ = (Clock::now(), SystemTime::now());
    Ok(())
}

fn main() {}
