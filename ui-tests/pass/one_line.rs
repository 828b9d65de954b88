//! Functions on one line cause no warning.
#![deny(warnings)]
#![cfg_attr(rustfmt, rustfmt_skip)]
use duroxide::prelude::*;

#[activity]
async fn one() -> Result<u32, String> { Ok(1) }

#[activity]
fn two() -> Result<u32, String> { Ok(2) }

#[orchestration]
async fn three(ctx: OrchestrationContext) -> duroxide::Result<u32> { Ok(one::call(&ctx).await? + two::call(&ctx).await?) }

fn main() {
    let _ = three;
}
