use duroxide::prelude::*;

#[activity(name = "charge-card" retry(max_attempts = 3 initial_interval = "1s") timeout = "30s")]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
