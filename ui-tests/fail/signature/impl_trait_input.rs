use duroxide::prelude::*;

#[activity]
async fn charge(order: impl Into<u32>) -> Result<u32, String> {
    Ok(order.into())
}

fn main() {}
