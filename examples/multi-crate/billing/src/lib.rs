//! Charges, and coordinates the checkout. It calls functions of the crate `shipping` without depending on it.

use contracts::{Agreed, Order};
use duroxide::prelude::*;

/// Charges the card.
#[activity(retry(max_attempts = 3))]
pub async fn charge(ctx: ActivityContext, cents: u64) -> duroxide::Result<String> {
    println!("  billing: {cents} cents are charged");
    Ok(format!("charge {}", ctx.idempotency_key()))
}

/// The code of the contract of the same name. Both must have the same name and the same parameter names.
#[orchestration]
pub async fn checkout(ctx: OrchestrationContext, order: Order) -> duroxide::Result<String> {
    let Agreed { when } = ctx.event::<Agreed>().await;
    tracing::info!("billing: the customer agreed {when}");
    let charge = charge::call(&ctx, order.cents).await?;

    // Both are contracts: this crate knows only their types.
    let text = format!("{} ({charge})", order.item);
    let label = contracts::print_label::call(&ctx, order.number, text).await?;
    let parcel = contracts::ship::call(&ctx, order).await?;
    Ok(format!("{parcel}, labelled {label:?}"))
}
