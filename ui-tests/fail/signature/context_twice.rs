use duroxide::prelude::*;

#[activity]
async fn charge(ctx: ActivityContext, again: ActivityContext) -> Result<(), String> {
    Ok(())
}

fn main() {}
