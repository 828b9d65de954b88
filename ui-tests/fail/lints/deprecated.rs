#![deny(deprecated)]
use duroxide::prelude::*;

#[activity]
#[deprecated(note = "use `new`")]
async fn old(order: u32, express: bool) -> Result<u32, String> {
    let _ = express;
    Ok(order)
}

#[activity]
#[deprecated]
async fn ship(order: u32) -> Result<u32, String>;

#[orchestration]
#[deprecated]
async fn old_checkout(ctx: OrchestrationContext, round: u32) -> duroxide::Result<u32> {
    if round > 5 {
        return old_checkout::continue_as_new(&ctx, round - 1).await;
    }
    Ok(round)
}

#[event]
#[deprecated]
struct OldApproval {
    by: String,
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    let order = old::call(&ctx, 1, true).await?;
    ship::call(&ctx, order).await?;
    let OldApproval { by } = ctx.event().await;
    drop(by);
    Ok(old_checkout::call(&ctx, order).await?)
}

async fn client(client: &Client) -> duroxide::Result<()> {
    old_checkout::start(client, "1", 5).await?;
    old_checkout::handle(client, "1").result().await?;
    Ok(())
}

fn main() {
    let _ = (checkout, client);
}
