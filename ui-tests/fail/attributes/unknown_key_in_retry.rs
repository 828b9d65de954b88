use duroxide::prelude::*;

#[activity(retry(attempts = 5))]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
