//! Aliases of `Result`, with one argument or two, also swapped.
use duroxide::prelude::*;

type Swapped<E, T> = std::result::Result<T, E>;

mod swapped {
    pub type Result<E, T> = crate::Swapped<E, T>;
}

#[activity]
async fn one() -> duroxide::Result<u8> {
    Ok("5".parse()?)
}

#[activity]
async fn two() -> duroxide::Result<u8, String> {
    Ok(1)
}

#[activity]
async fn other_way_round() -> swapped::Result<String, u8> {
    Ok(1)
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> duroxide::Result<u8> {
    let sum: u8 = one::call(&ctx).await? + two::call(&ctx).await? + other_way_round::call(&ctx).await?;
    Ok(sum)
}

fn main() {
    let _ = caller;
}
