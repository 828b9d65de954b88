use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: u32) -> Result<u32, String> {
    drop(ctx);
    Ok(order)
}

#[event]
struct Approval {
    by: String,
}

async fn client(handle: &Handle<checkout>) -> duroxide::Result<()> {
    handle.raise("ops").await
}

fn main() {}
