//! The code of the contracts.

use duroxide::prelude::*;

#[activity]
async fn fetch(ctx: ActivityContext, week: u32, source: u32) -> duroxide::Result<String> {
    match source.is_multiple_of(10) && ctx.attempt() < 3 {
        true => Err(duroxide::Error::new(format!("source {source} cannot be reached"))),
        false => Ok(format!("source {source} in week {week}")),
    }
}

#[activity]
async fn tell(line: String) -> duroxide::Result<()> {
    println!("{line}");
    Ok(())
}
