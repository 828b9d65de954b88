use duroxide::prelude::*;

#[activity(retry(if = true))]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
