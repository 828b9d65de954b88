//! Functions and macros of the program that have the names of nondeterministic ones.
use duroxide::prelude::*;

fn random(seed: u64) -> u64 {
    seed + 1
}

#[orchestration]
async fn by_path(ctx: OrchestrationContext) -> Result<u64, String> {
    Ok(self::random(ctx.random()))
}

#[orchestration]
async fn marked(ctx: OrchestrationContext) -> Result<u64, String> {
    #[allow_nondeterminism]
    let value = random(ctx.random());
    Ok(value)
}

#[orchestration]
async fn of_the_body(ctx: OrchestrationContext) -> Result<(), String> {
    async fn sleep(ctx: &OrchestrationContext) {
        ctx.sleep(days(1)).await;
    }
    macro_rules! select {
        ($future:expr) => {
            $future.await
        };
    }
    select!(sleep(&ctx));
    join!(sleep(&ctx), sleep(&ctx));
    Ok(())
}

#[orchestration]
async fn tokio_with_order(ctx: OrchestrationContext) -> Result<(), String> {
    use tokio::{join, select};
    join!(biased; ctx.sleep(days(1)), ctx.sleep(days(1)));
    select! { biased; () = ctx.sleep(days(1)) => {}, () = ctx.sleep(days(2)) => {} }
    Ok(())
}

fn main() {
    let _ = (by_path, marked, of_the_body, tokio_with_order);
}
