use duroxide::prelude::*;

#[activity(timeout = 30)]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
