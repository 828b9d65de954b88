use duroxide::prelude::*;
use rand_stand_in::random;
use tokio::time::{sleep, timeout};

mod rand_stand_in {
    pub fn random() -> u32 {
        4
    }
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    sleep(days(1)).await;
    timeout(days(1), ctx.sleep(days(2))).await.ok();
    let random = random();
    drop(random);
    tokio::task::yield_now().await;
    Ok(())
}

fn main() {}
