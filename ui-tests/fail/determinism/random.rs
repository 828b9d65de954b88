use duroxide::prelude::*;

mod rand {
    pub fn random() -> u32 {
        4
    }
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _: u32 = rand::random();
    Ok(())
}

fn main() {}
