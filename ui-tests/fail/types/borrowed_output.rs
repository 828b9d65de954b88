use duroxide::prelude::*;

#[activity]
async fn charge(order: u32) -> Result<&'static str, String> {
    drop(order);
    Ok("paid")
}

#[activity]
async fn refund(order: u32) -> duroxide::Result<Option<&'static [u8]>> {
    drop(order);
    Ok(None)
}

fn main() {}
