use duroxide::prelude::*;

#[activity]
async fn charge(order: u32) -> Result<u32, String>
where
    u32: Copy,
{
    Ok(order)
}

fn main() {}
