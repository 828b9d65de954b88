use duroxide::prelude::*;

#[activity(name = "a", timeout = "1s", name = "b")]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
