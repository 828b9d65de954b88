use duroxide::prelude::*;

#[activity]
async fn charge(order: u8, _order: u8) -> Result<u8, String> {
    Ok(order)
}

fn main() {}
