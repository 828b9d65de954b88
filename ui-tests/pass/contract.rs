//! Contracts: callers link the types, another binary has the code.
use duroxide::prelude::*;

/// Ships.
#[activity(timeout = "1m")]
pub async fn ship(order: u32, express: bool) -> Result<String, String>;

#[activity]
fn weigh(order: u32) -> Result<u32, String>;

#[orchestration(version = "2.1.0")]
async fn deliver(ctx: OrchestrationContext, order: u32) -> Result<(), String>;

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<(), String> {
    ship::call(&ctx, 1, true).await.map_err(|_| String::new())?;
    deliver::call(&ctx, 1).await.map_err(|_| String::new())
}

async fn client(client: &Client) -> Result<Handle<deliver>, duroxide::ClientError> {
    deliver::start(client, "d", 1).await
}

fn main() {
    let _ = (caller, client);
    assert_eq!(deliver::VERSION, "2.1.0");
    assert_eq!(<ship as Activity>::PARAMETERS, Some(["order", "express"].as_slice()));
}
