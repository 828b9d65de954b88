use duroxide::prelude::*;

mod chrono {
    pub struct Utc;
    pub struct Local;
    impl Utc {
        pub fn now() {}
    }
    impl Local {
        pub fn now() {}
    }
}
use chrono::Utc;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = (Utc::now(), chrono::Local::now());
    Ok(())
}

fn main() {}
