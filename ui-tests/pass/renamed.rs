//! The library under another name, and re-exported.
pub extern crate duroxide as engine;

use engine::prelude::{ActivityContext, OrchestrationContext};

mod framework {
    pub use engine as durable;
}

#[engine::activity(crate = engine)]
async fn a(ctx: ActivityContext, x: u8, y: u8) -> Result<u8, String> {
    let _ = ctx;
    Ok(x + y)
}

#[engine::event(crate = crate::framework::durable)]
struct Done(u8);

#[engine::orchestration(crate = crate::framework::durable)]
async fn o(ctx: OrchestrationContext, x: u8, y: u8) -> Result<u8, String> {
    let Done(z) = ctx.event().await;
    a::call(&ctx, x, y + z).await.map_err(|_| String::new())
}

fn main() {
    let _ = o;
}
