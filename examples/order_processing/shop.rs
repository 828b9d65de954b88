//! The work: activities, and the services that they call.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::time::Duration;

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) cents: i64,
}

/// The error of `pay`. Errors are recorded, too, and so must be serializable.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum PaymentError {
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

#[activity]
pub(crate) async fn reserve_stock(State(shop): State<Shop>, order: Order) -> duroxide::Result<()> {
    println!("  reserving stock for {} ..", order.id);
    tokio::time::sleep(shop.pace).await;
    Ok(())
}

/// Compensation must be harmless if it runs twice, or if there is nothing to compensate.
#[activity]
pub(crate) async fn release_stock(order: Order) -> duroxide::Result<()> {
    println!("  stock of {} released", order.id);
    Ok(())
}

/// An activity may run again: after a failure, and if the process died before its result was recorded. So its effects
/// must be idempotent. The idempotency key, which is the same in every attempt of one call, helps the service to
/// recognise a repetition.
///
/// A plain `fn` may block: it runs on a separate pool of threads.
#[activity(retry(max_attempts = 5, initial_interval = "100ms", if = PaymentError::is_transient))]
pub(crate) fn pay(ctx: ActivityContext, State(shop): State<Shop>, cents: i64) -> Result<String, PaymentError> {
    println!("  charging {cents} cents, attempt {} ..", ctx.attempt());
    if ctx.attempt() == 1 {
        return Err(PaymentError::Busy); // retried, because of `is_transient`
    }
    shop.post(&ctx.idempotency_key(), cents).map_err(|error| PaymentError::Ledger(error.to_string()))
}

#[activity(retry(max_attempts = 5, initial_interval = "100ms"))]
pub(crate) fn refund(
    ctx: ActivityContext,
    State(shop): State<Shop>,
    charge: String,
    cents: i64,
) -> duroxide::Result<String> {
    println!("  paying {charge} back ..");
    Ok(shop.post(&ctx.idempotency_key(), -cents)?)
}

#[activity]
pub(crate) async fn ship(State(shop): State<Shop>, order: Order) -> duroxide::Result<String> {
    println!("  sending the parcel ..");
    tokio::time::sleep(shop.pace).await;
    if order.id.ends_with("13") {
        Err(duroxide::Error::new("no carrier takes it"))
    } else {
        Ok(format!("parcel of {}", order.id))
    }
}

/// The state of the program for the activities: the runtime passes it to each that takes `State<Shop>`.
#[derive(Clone)]
pub(crate) struct Shop {
    /// The duration of each step.
    pub(crate) pace: Duration,
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
        println!("  the gateway has posted {cents} cents under {key}, and answers slowly ..");
        std::thread::sleep(self.pace); // if the process is killed here, the charge is made but not recorded
        Ok(key.to_owned())
    }
}
