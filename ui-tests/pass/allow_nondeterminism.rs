//! The opt-outs, on a statement, an expression, a block, and the whole body.
use duroxide::prelude::*;
use std::time::Instant;

#[orchestration]
async fn marked(ctx: OrchestrationContext) -> Result<u64, String> {
    #[allow_nondeterminism]
    let start = Instant::now();
    #[allow_nondeterminism]
    {
        let _ = std::env::var("VERBOSE");
    }
    let _: u64 = ctx.random();
    Ok(u64::from(
        #[allow_nondeterminism]
        start.elapsed().subsec_nanos(),
    ))
}

#[orchestration(allow = "measures itself, and keeps the result out of what it does")]
async fn all_of_it(ctx: OrchestrationContext) -> Result<(), String> {
    let start = Instant::now();
    ctx.sleep(std::time::Duration::from_secs(1)).await;
    let _ = start.elapsed();
    Ok(())
}

fn main() {
    let _ = (marked, all_of_it);
}
