use duroxide::prelude::*;

#[activity(crate = "duroxide")]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
