use duroxide::Registry;
use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    Ok(())
}

fn main() {
    let _ = Registry::empty().with_activity::<checkout>();
}
