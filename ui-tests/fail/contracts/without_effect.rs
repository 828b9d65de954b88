use duroxide::prelude::*;

#[orchestration(allow = "it has no body")]
#[tracing::instrument]
pub async fn checkout(ctx: OrchestrationContext, order: u32) -> Result<(), String>;

#[must_use]
#[activity]
pub async fn ship(order: u32) -> Result<(), String>;

fn main() {}
