use duroxide::prelude::*;

#[activity(name = "")]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
