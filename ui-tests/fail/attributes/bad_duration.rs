use duroxide::prelude::*;

#[activity(timeout = "30 seconds", schedule_to_close = "1.5m")]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
