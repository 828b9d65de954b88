//! Packs, prints labels and sends.

use contracts::Order;
use duroxide::prelude::*;

/// The code of a contract.
#[activity]
pub async fn print_label(number: u32, text: String) -> duroxide::Result<String> {
    println!("  shipping: a label is printed");
    Ok(format!("no. {number}: {text}"))
}

/// Not a contract: only this crate can call it by type.
#[activity]
async fn pack(item: String) -> duroxide::Result<String> {
    println!("  shipping: {item} is packed");
    Ok(format!("a box with {item}"))
}

/// The code of a contract.
#[orchestration]
pub async fn ship(ctx: OrchestrationContext, order: Order) -> duroxide::Result<String> {
    let parcel = pack::call(&ctx, order.item).await?;
    tracing::info!("shipping: {parcel} is on its way");
    Ok(parcel)
}
