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
//! directory; without them, all orders are new.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::time::Duration;

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    id: String,
    cents: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    charge: String,
    parcel: String,
    insurance: uuid::Uuid,
}

/// What `pay` fails with. Errors are recorded, too, and so must be serializable.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum PaymentError {
    #[error("the gateway is busy")]
    Busy,
    #[error("the ledger: {0}")]
    Ledger(String),
}

impl PaymentError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Busy)
    }
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
    reserve_stock::call(&ctx, order.clone()).await?;
    let outcome = sell(&ctx, &order).await;
    if let Err(error) = &outcome {
        tracing::warn!(%error, "giving up, and undoing what was done");
        release_stock::call(&ctx, order).await?;
    }
    outcome
}

/// Part of an orchestration can be any async function that is handed the context.
async fn sell(ctx: &OrchestrationContext, order: &Order) -> Result<Receipt, OrderError> {
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

#[activity]
async fn reserve_stock(State(shop): State<Shop>, order: Order) -> duroxide::Result<()> {
    println!("  reserving stock for {} ..", order.id);
    tokio::time::sleep(shop.pace).await;
    Ok(())
}

#[activity]
async fn release_stock(order: Order) -> duroxide::Result<()> {
    println!("  stock of {} released", order.id);
    Ok(())
}

/// An activity may be run again: when it failed, and when the process died before its result was recorded. What it does to
/// the world must bear that, and the idempotency key, which is the same in every run of one call, is what makes it so.
///
/// A plain `fn` may block: it runs on threads of its own.
#[activity(retry(max_attempts = 5, initial_interval = "100ms", if = PaymentError::is_transient))]
fn pay(ctx: ActivityContext, State(shop): State<Shop>, cents: i64) -> Result<String, PaymentError> {
    println!("  charging {cents} cents, attempt {} ..", ctx.attempt());
    if ctx.attempt() == 1 {
        return Err(PaymentError::Busy); // tried again: `is_transient` says so
    }
    shop.post(&ctx.idempotency_key(), cents).map_err(|error| PaymentError::Ledger(error.to_string()))
}

#[activity(retry(max_attempts = 5, initial_interval = "100ms"))]
fn refund(ctx: ActivityContext, State(shop): State<Shop>, charge: String, cents: i64) -> duroxide::Result<String> {
    println!("  paying {charge} back ..");
    Ok(shop.post(&ctx.idempotency_key(), -cents)?)
}

#[activity]
async fn ship(State(shop): State<Shop>, order: Order) -> duroxide::Result<String> {
    println!("  sending the parcel ..");
    tokio::time::sleep(shop.pace).await;
    if order.id.ends_with("13") {
        Err(duroxide::Error::new("no carrier takes it"))
    } else {
        Ok(format!("parcel of {}", order.id))
    }
}

/// What the activities need from the program: it is given to the runtime, and handed to each that takes `State<Shop>`.
#[derive(Clone)]
struct Shop {
    /// How long each step takes.
    pace: Duration,
}

impl Shop {
    /// Stands for a payment service: its ledger has one line for each key.
    fn post(&self, key: &str, cents: i64) -> std::io::Result<String> {
        let mut ledger = OpenOptions::new().read(true).append(true).create(true).open("order_processing.ledger")?;
        let mut lines = String::new();
        ledger.read_to_string(&mut lines)?;
        if lines.lines().any(|line| line.split_once(' ').is_some_and(|(_, known)| known == key)) {
            println!("  the gateway knows {key}: nothing is posted again");
            return Ok(key.to_owned());
        }
        ledger.write_all(format!("{cents} {key}\n").as_bytes())?;
        ledger.sync_all()?;
        println!("  the gateway has posted {cents} cents under {key}, and is slow to say so ..");
        std::thread::sleep(self.pace); // killed here, the charge is made and not recorded
        Ok(key.to_owned())
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
        // Such as a step in which the process died many times. Whoever starts this program again wants it to be tried again.
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
