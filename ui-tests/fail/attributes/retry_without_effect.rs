use duroxide::prelude::*;

#[activity(retry(max_attempts = 1, initial_interval = "1s"))]
async fn charge(cents: u32) -> Result<u32, String> {
    Ok(cents)
}

#[activity(retry(backoff = 1, initial_interval = "1s", max_interval = "5s"))]
async fn ship(order: u32) -> Result<u32, String> {
    Ok(order)
}

#[activity(retry(backoff = 3, initial_interval = "1h"))]
async fn invoice(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
