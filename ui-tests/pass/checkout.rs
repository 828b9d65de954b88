//! The features on the first page of the documentation, in one program.
use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    cents: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChargeError;

impl ChargeError {
    fn is_transient(&self) -> bool {
        true
    }
}

#[derive(Clone)]
struct Gateway;

/// Charges the card.
#[activity(timeout = "30s", retry(max_attempts = 5, initial_interval = "200ms", if = ChargeError::is_transient))]
async fn charge_card(State(gateway): State<Gateway>, order: Order) -> Result<u64, ChargeError> {
    let Gateway = gateway;
    Ok(order.cents)
}

#[event]
struct Approval {
    by: String,
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: Order) -> Result<u64, String> {
    let Approval { by } = ctx.event::<Approval>().await;
    charge_card::call(&ctx, order).await.map_err(|_| by)
}

async fn client(client: &Client) -> duroxide::Result<()> {
    let handle = checkout::start(client, "order-17", Order { cents: 5 }).await?;
    handle.raise(Approval { by: "ops".into() }).await?;
    let _: u64 = checkout::handle(client, String::from("order-17")).result().await.map_err(|_| std::fmt::Error)?;
    Ok(())
}

fn main() {
    let _ = (client, charge_card, checkout);
    assert_eq!(charge_card::NAME, "charge_card");
    assert_eq!((checkout::NAME, checkout::VERSION), ("checkout", "1.0.0"));
    assert_eq!(<Approval as Event>::NAME, "Approval");
    assert_eq!(<charge_card as Activity>::PARAMETERS, Some(["order"].as_slice()));
    let options = <charge_card as Activity>::options();
    assert_eq!(options.start_to_close, Some(std::time::Duration::from_secs(30)));
    assert_eq!(options.retry.and_then(|retry| retry.max_attempts), Some(5));
}
