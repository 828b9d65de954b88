//! An order that survives crashes: stock is reserved, a manager approves, the card is charged, the parcel is sent.
//!
//! ```sh
//! cargo run --example order_processing                     # order-17, about a second
//! cargo run --example order_processing -- order-18 slow    # time to kill it: Ctrl-C, or `kill -9`
//! cargo run --example order_processing -- order-13         # no carrier takes it: the order is compensated
//! ```
//!
//! Kill it at any moment and run the same command again: it continues where it stopped, with the same receipt, and no
//! card is charged twice. The state is in `order_processing.db`, the charges in `order_processing.ledger`, both in the
//! current directory; remove them to start over. The activities are in `shop.rs`: the runtime discovers them in any
//! module.
//!
//! With PostgreSQL for its state, the program may run on several machines at once:
//!
//! ```sh
//! export DATABASE_URL=postgres://user:password@host/database
//! cargo run --features postgres --example order_processing
//! ```

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

/// The error of the orchestration. `#[from] CallError<..>` makes `?` work for every call.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum OrderError {
    #[error("not approved in time")]
    NotApproved,
    #[error("payment: {0}")]
    Payment(#[from] CallError<PaymentError>),
    #[error("{0}")]
    Step(#[from] CallError<duroxide::Error>),
}

/// An event from outside. It may come early, or twice: it waits until it is read.
#[event]
struct Approval {
    by: String,
}

/// The coordination. It is replayed after a crash, so it only calls, waits and decides.
#[orchestration]
async fn process_order(ctx: OrchestrationContext, order: Order) -> Result<Receipt, OrderError> {
    let outcome = sell(&ctx, &order).await;
    if let Err(error) = &outcome {
        tracing::warn!(%error, "the order failed; releasing its stock");
        release_stock::call(&ctx, order).await?;
    }
    outcome
}

/// A helper: any async function that takes the context can be part of an orchestration.
async fn sell(ctx: &OrchestrationContext, order: &Order) -> Result<Receipt, OrderError> {
    reserve_stock::call(ctx, order.clone()).await?;
    select! { // the first branch wins; the other one is dropped, which cancels its wait
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

/// Chooses the storage. This is all that differs between a file and a database server.
#[cfg(feature = "postgres")]
fn with_storage(builder: duroxide::RuntimeBuilder) -> duroxide::RuntimeBuilder {
    use duroxide_postgres::PostgresRuntime;
    match std::env::var("DATABASE_URL") {
        Ok(url) => builder.postgres(url),
        Err(_) => builder.sqlite("order_processing.db"),
    }
}

#[cfg(not(feature = "postgres"))]
fn with_storage(builder: duroxide::RuntimeBuilder) -> duroxide::RuntimeBuilder {
    if std::env::var_os("DATABASE_URL").is_some() {
        eprintln!(
            "DATABASE_URL is set, but PostgreSQL is not compiled in: add `--features postgres`, or unset the variable"
        );
        std::process::exit(2);
    }
    builder.sqlite("order_processing.db")
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let mut args = std::env::args().skip(1);
    let id = args.next().unwrap_or_else(|| "order-17".to_owned());
    let pace = Duration::from_millis(if args.next().is_some() { 3000 } else { 200 });
    println!("processing {id}: kill this program at any time, and run it again");
    println!("its files are {}/order_processing.*; remove them to start again", std::env::current_dir()?.display());
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = with_storage(Runtime::builder()).state(Shop { pace }).start().await?;

    // Attach: in the first run and in the tenth, there is one instance with this id.
    let order = Order { id: id.clone(), cents: 129_900 };
    let handle = process_order::start(&runtime.client(), &id, order).if_exists(IfExists::Attach).await?;
    let status = handle.status().await?;
    println!("{id} was placed at {}, and is {}", status.created_at, status.status);
    if let Some(reason) = status.suspension {
        // For example, a step that was running when the process was killed many times. A new run tries it again.
        println!("it is suspended, and resumed: {reason}");
        handle.resume().await?;
    }

    // The manager approves it in every run. An approval that comes too late is refused, or never read.
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
    runtime.shutdown().await?;
    Ok(())
}
