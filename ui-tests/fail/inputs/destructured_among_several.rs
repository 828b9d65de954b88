use duroxide::prelude::*;

#[activity]
async fn charge((a, b): (u8, u8), _: u8) -> Result<u8, String> {
    Ok(a + b)
}

fn main() {}
