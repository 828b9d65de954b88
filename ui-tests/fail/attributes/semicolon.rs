use duroxide::prelude::*;

#[activity(name = "charge-card"; timeout = "30s")]
async fn charge(cents: u32) -> Result<u32, String> {
    Ok(cents)
}

fn main() {}
