use duroxide::prelude::*;

#[activity]
async fn ship(ctx: ActivityContext, order: u32) -> Result<u32, String>;

fn main() {}
