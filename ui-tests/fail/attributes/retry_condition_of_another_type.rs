use duroxide::prelude::*;

#[activity(retry(if = u32::is_power_of_two))]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
