use duroxide::prelude::*;

#[orchestration]
#[allow_nondeterminism]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    ctx.sleep(days(1)).await;
    #[allow_nondeterminism(reason = "only logged")]
    let _ = std::env::var("VERBOSE");
    Ok(())
}

#[activity]
async fn charge(cents: u32) -> Result<u32, String> {
    #[allow_nondeterminism]
    let _ = std::env::var("VERBOSE");
    Ok(cents)
}

fn main() {}
