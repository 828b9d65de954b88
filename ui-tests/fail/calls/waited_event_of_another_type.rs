use duroxide::prelude::*;

#[event]
struct Approval {
    by: String,
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<u32, String> {
    let by: u32 = ctx.event::<Approval>().await;
    Ok(by)
}

fn main() {}
