use duroxide::prelude::*;

#[activity(max_attempts = 3, blocking, tag = "gpu", version = "1.0.0")]
async fn charge(cents: u32) -> Result<u32, String> {
    Ok(cents)
}

#[activity(retry(times = 3, delay = "1s", timeout = "1s"))]
async fn ship(order: u32) -> Result<u32, String> {
    Ok(order)
}

#[orchestration(timeout = "1h", retry(max_attempts = 2))]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    ctx.sleep(days(1)).await;
    Ok(())
}

fn main() {}
