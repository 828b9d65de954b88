use duroxide::prelude::*;

#[derive(serde::Serialize)]
struct Order;

#[activity]
async fn charge(cents: u32, order: Order) -> Result<u32, String> {
    drop(order);
    Ok(cents)
}

fn main() {}
