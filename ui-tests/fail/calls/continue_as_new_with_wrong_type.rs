use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: u32) -> Result<u32, String> {
    if order > 1 {
        return checkout::continue_as_new(&ctx, "one").await;
    }
    Ok(order)
}

fn main() {}
