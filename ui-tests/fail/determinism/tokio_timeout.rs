use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    use tokio::time;
    let _ = time::timeout(std::time::Duration::from_secs(1), async {}).await;
    Ok(())
}

fn main() {}
