use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    tokio::select! {
        () = async {} => {}
        () = async {} => {}
    }
    Ok(())
}

fn main() {}
