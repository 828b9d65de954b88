use duroxide::prelude::*;

#[activity(timeout = "1h", schedule_to_close = "1m", retry(initial_interval = "1m", max_interval = "1s"))]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

#[activity(schedule_to_close = "1m", retry(initial_interval = "1h"))]
async fn ship(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
