#![deny(unused_must_use)]
use duroxide::prelude::*;

#[activity]
async fn charge(order: u32, express: bool) -> Result<u32, String> {
    Ok(order + u32::from(express))
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<(), String> {
    charge::call(&ctx, 1, true);
    Ok(())
}

fn main() {}
