use duroxide::prelude::*;
use tokio::{join, select};

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    select! {
        () = ctx.sleep(days(1)) => {}
        () = ctx.sleep(days(2)) => {}
    }
    join!(ctx.sleep(days(1)), ctx.sleep(days(2)));
    Ok(())
}

fn main() {}
