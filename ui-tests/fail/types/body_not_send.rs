use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<u32, String> {
    let total = std::rc::Rc::new(5);
    ctx.sleep(std::time::Duration::from_secs(1)).await;
    Ok(*total)
}

fn main() {}
