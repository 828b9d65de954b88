use duroxide::prelude::*;

struct Order;
struct Card;

#[activity]
async fn charge(order: Order, cents: u32, card: Option<Card>) -> Result<u32, String> {
    drop((order, card));
    Ok(cents)
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: Order, cents: u32) -> Result<u32, String> {
    charge::call(&ctx, order, cents, None).await.map_err(|_| String::new())
}

fn main() {}
