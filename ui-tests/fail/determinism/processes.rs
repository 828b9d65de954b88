use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = std::process::Command::new("ls");
    Ok(())
}

fn main() {}
