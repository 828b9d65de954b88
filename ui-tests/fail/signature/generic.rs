use duroxide::prelude::*;

#[activity]
async fn charge<T: Send>(order: T) -> Result<(), String> {
    drop(order);
    Ok(())
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<(), String> {
    charge::call(&ctx, 1).await.map_err(|_| String::new())
}

fn main() {}
