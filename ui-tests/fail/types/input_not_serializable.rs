use duroxide::prelude::*;

struct Order;

#[activity]
async fn charge(order: Order) -> Result<(), String> {
    drop(order);
    Ok(())
}

fn main() {}
