use duroxide::prelude::*;

use duroxide::OrchestrationContext as C;

#[orchestration]
async fn other_parameter_name(c: C) -> Result<(), String> {
    c.sleep(days(1)).await;
    Ok(())
}

#[orchestration]
async fn another_type(ctx: String) -> Result<(), String> {
    drop(ctx);
    Ok(())
}

#[activity]
async fn input_called_ctx(ctx: String) -> Result<String, String> {
    Ok(ctx)
}

#[orchestration]
async fn shared(ctx: std::sync::Arc<OrchestrationContext>) -> Result<(), String> {
    ctx.sleep(days(1)).await;
    Ok(())
}

fn main() {}
