use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    println!("{:?}", std::time::Instant::now());
    Ok(())
}

fn main() {}
