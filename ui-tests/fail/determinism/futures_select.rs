use duroxide::prelude::*;

mod futures {
    macro_rules! select {
        ($($t:tt)*) => {};
    }
    pub(crate) use select;
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    futures::select! { () }
    Ok(())
}

fn main() {}
