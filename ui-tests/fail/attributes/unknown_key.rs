use duroxide::prelude::*;

#[activity(timeouts = "30s")]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
