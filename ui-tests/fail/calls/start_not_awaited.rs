#![deny(unused_must_use)]
use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: u32) -> Result<u32, String> {
    drop(ctx);
    Ok(order)
}

fn client(client: &Client) {
    checkout::start(client, "order-17", 1);
}

fn main() {}
