use duroxide::prelude::*;

#[derive(serde::Serialize)]
struct Receipt;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<Option<Receipt>, String> {
    drop(ctx);
    Ok(None)
}

fn main() {}
