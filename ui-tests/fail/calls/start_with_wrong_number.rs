use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: u32) -> Result<u32, String> {
    drop(ctx);
    Ok(order)
}

async fn client(client: &Client) -> duroxide::Result<()> {
    checkout::start(client, "order-17").await?;
    Ok(())
}

fn main() {}
