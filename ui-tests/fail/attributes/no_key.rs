use duroxide::prelude::*;

#[activity("charge")]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
