use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    let sleeps: Vec<_> = (1..4).map(|n| ctx.sleep(days(n))).collect();
    join!(sleeps);
    Ok(())
}

fn main() {}
