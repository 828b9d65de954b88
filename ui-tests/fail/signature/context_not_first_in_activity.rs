use duroxide::prelude::*;

#[activity]
async fn charge(order: u32, ctx: ActivityContext) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
