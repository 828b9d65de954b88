//! A single input may be destructured in the signature.
use duroxide::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Order {
    id: u32,
    note: String,
}

#[activity]
async fn pair((a, b): (i32, i32)) -> Result<i32, String> {
    Ok(a + b)
}

#[orchestration]
async fn of_order(ctx: OrchestrationContext, Order { id, .. }: Order) -> Result<u32, String> {
    let sum = pair::call(&ctx, (1, 2)).await.map_err(|_| String::new())?;
    Ok(id + u32::try_from(sum).unwrap_or(0))
}

fn main() {
    let _ = of_order;
    let _ = Order { id: 1, note: String::new() }.note;
}
