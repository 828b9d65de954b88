//! An order that survives crashes: stock is reserved, a manager approves, the card is charged, the parcel is sent.
//!
//! ```sh
//! cargo run --example order_processing                     # order-17, about a second
//! cargo run --example order_processing -- order-18 slow    # time to kill it: Ctrl-C, or `kill -9` from elsewhere
//! cargo run --example order_processing -- order-13         # no carrier takes it: what was done is undone
//! ```
//!
//! Kill it at any moment and run the same command again: it goes on where it was, with the same receipt, and no card is
//! charged twice. The state is in `order_processing.db`, the charges in `order_processing.ledger`, both in the current
//! directory; without them, all orders are new. The activities are in `shop.rs`: they are found wherever they stand.

use std::time::Duration;

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

mod shop;
use shop::{Order, PaymentError, Shop, pay, refund, release_stock, reserve_stock, ship};

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    charge: String,
    parcel: String,
    insurance: uuid::Uuid,
}

/// What the orchestration fails with. `#[from] CallError<..>` lets `?` stand behind every call.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum OrderError {
    #[error("nobody approved it in time")]
    NotApproved,
    #[error("payment: {0}")]
    Payment(#[from] CallError<PaymentError>),
    #[error("{0}")]
    Step(#[from] CallError<duroxide::Error>),
}

/// Sent from outside. It may come early, or twice: it waits until it is read.
#[event]
struct Approval {
    by: String,
}

/// The coordination. It is replayed after a crash, so it does nothing itself but call, wait and decide.
#[orchestration]
async fn process_order(ctx: OrchestrationContext, order: Order) -> Result<Receipt, OrderError> {
    let outcome = sell(&ctx, &order).await;
    if let Err(error) = &outcome {
        tracing::warn!(%error, "giving up, and undoing what was done");
        release_stock::call(&ctx, order).await?;
    }
    outcome
}

/// Part of an orchestration can be any async function that is handed the context.
async fn sell(ctx: &OrchestrationContext, order: &Order) -> Result<Receipt, OrderError> {
    reserve_stock::call(ctx, order.clone()).await?;
    select! { // whichever is first; the other one is dropped, and with it what it waited for
        approval = ctx.event::<Approval>() => tracing::info!("approved by {}", approval.by),
        () = ctx.sleep(hours(8)) => return Err(OrderError::NotApproved),
    }
    let insurance = ctx.uuid(); // random, and still the same after a crash
    let charge = pay::call(ctx, order.cents).await?;
    match ship::call(ctx, order.clone()).timeout(minutes(5)).await {
        Ok(parcel) => Ok(Receipt { charge, parcel, insurance }),
        Err(error) => {
            refund::call(ctx, charge, order.cents).await?;
            Err(error.into())
        }
    }
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let mut args = std::env::args().skip(1);
    let id = args.next().unwrap_or_else(|| "order-17".to_owned());
    let pace = Duration::from_millis(if args.next().is_some() { 3000 } else { 200 });
    println!("processing {id}; state and ledger are order_processing.* in {}", std::env::current_dir()?.display());
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = Runtime::builder().sqlite("order_processing.db").state(Shop { pace }).start().await?;

    // Attach: whether this is the first run or the tenth, there is one instance of this id.
    let order = Order { id: id.clone(), cents: 129_900 };
    let handle = process_order::start(&runtime.client(), &id, order).if_exists(IfExists::Attach).await?;
    let status = handle.status().await?;
    println!("{id} was placed at {}, and is {}", status.created_at, status.status);
    if let Some(reason) = status.suspension {
        // Such as a step in which the process died many times. Who starts this program again wants it to be tried again.
        println!("it stands still, and is let go on: {reason}");
        handle.resume().await?;
    }

    // The manager looks at it in every run. An approval that is not needed any more is refused, or never read.
    tokio::time::sleep(pace).await;
    match handle.raise(Approval { by: "the manager".to_owned() }).await {
        Err(error) if !error.is_finished() => return Err(error.into()),
        _ => {}
    }
    match handle.result().await {
        Ok(receipt) => println!("done: {receipt:#?}"),
        Err(OutcomeError::Failed(error)) => println!("{id} was not processed: {error}"),
        Err(error) => return Err(error.into()),
    }
    runtime.shutdown().await
}
