use duroxide::prelude::*;

struct Uuid;
impl Uuid {
    fn new_v4() {}
    fn now_v7() {}
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = (Uuid::new_v4(), Uuid::now_v7());
    Ok(())
}

fn main() {}
