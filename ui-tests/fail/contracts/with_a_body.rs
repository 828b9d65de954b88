use duroxide::prelude::*;

#[activity]
async fn ship(order: u32) -> Result<u32, String>;
{
    Ok(order)
}

fn main() {}
