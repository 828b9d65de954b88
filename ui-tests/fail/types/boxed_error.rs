use duroxide::prelude::*;

#[activity]
async fn charge(order: u32) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    Ok(order)
}

#[activity]
async fn read(path: String) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<(), String> {
    let _ = charge::call(&ctx, 1).await;
    Ok(())
}

fn main() {}
