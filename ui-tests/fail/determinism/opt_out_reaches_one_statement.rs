use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    #[allow_nondeterminism]
    let _ = std::time::Instant::now();
    let _ = std::time::Instant::now();
    Ok(())
}

fn main() {}
