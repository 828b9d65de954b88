//! The orders that the processes work on. Each step of an order writes its idempotency key to the ledger, and returns the key.

use std::time::Duration;

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::child::report;
use crate::ledger::Ledger;

/// The state of the activities.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) ledger: Ledger,
    /// True once held activities may return.
    pub(crate) released: watch::Receiver<bool>,
}

impl Shop {
    fn effect(&self, ctx: &ActivityContext, activity: &str, number: u32) -> String {
        let key = ctx.idempotency_key();
        self.ledger.note(&format!("effect {key} {activity}-{number}"));
        report(&format!("effect {activity}-{number}"));
        key
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u32,
    /// The number of parcels still to be sent, each by its own execution.
    pub(crate) parcels: u32,
    /// The idempotency keys of the finished activities.
    pub(crate) steps: Vec<String>,
}

impl Order {
    pub(crate) fn new(number: u32) -> Self {
        Self { number, parcels: if number % 4 == 3 { 3 } else { 1 }, steps: Vec::new() }
    }

    pub(crate) fn id(number: u32) -> String {
        format!("order-{number}")
    }

    pub(crate) fn needs_approval(number: u32) -> bool {
        number.is_multiple_of(4)
    }

    pub(crate) fn has_invoice(number: u32) -> bool {
        number % 4 == 1
    }

    pub(crate) fn cannot_be_sent(number: u32) -> bool {
        number.is_multiple_of(7)
    }
}

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum OrderError {
    /// The order could not be sent, and was refunded.
    #[error("it could not be sent: {0:?}")]
    NotSent(Vec<String>),
    #[error("{0}")]
    Step(#[from] CallError<duroxide::Error>),
}

#[event]
pub(crate) struct Approval {
    pub(crate) number: u32,
}

#[orchestration]
pub(crate) async fn process_order(ctx: OrchestrationContext, order: Order) -> Result<Vec<String>, OrderError> {
    let Order { number, parcels, mut steps } = order;
    if steps.is_empty() {
        steps.push(reserve::call(&ctx, number).await?);
        steps.push(charge::call(&ctx, number).await?);
        ctx.sleep(Duration::from_millis(5)).await;
        match number % 4 {
            0 => assert_eq!(ctx.event::<Approval>().await.number, number),
            1 => steps.extend(invoice::call(&ctx, number).id(format!("invoice-{number}")).await?),
            2 => select! {
                quote = quote::call(&ctx, number) => steps.push(quote?),
                () = ctx.sleep(Duration::from_millis(3)) => {}
            },
            _ => {
                for quote in join_all((0..3).map(|_| quote::call(&ctx, number))).await {
                    steps.push(quote?);
                }
            }
        }
    }
    ctx.sleep(Duration::from_millis(3)).await;
    match send::call(&ctx, number).await {
        Ok(key) => steps.push(key),
        Err(_) => {
            steps.push(refund::call(&ctx, number).await?);
            return Err(OrderError::NotSent(steps));
        }
    }
    if parcels > 1 {
        return process_order::continue_as_new(&ctx, Order { number, parcels: parcels - 1, steps }).await;
    }
    Ok(steps)
}

#[orchestration]
async fn invoice(ctx: OrchestrationContext, number: u32) -> duroxide::Result<Vec<String>> {
    let printed = print_invoice::call(&ctx, number).await?;
    ctx.sleep(Duration::from_millis(4)).await;
    Ok(vec![printed, mail_invoice::call(&ctx, number).await?])
}

#[activity]
async fn reserve(ctx: ActivityContext, State(shop): State<Shop>, number: u32) -> duroxide::Result<String> {
    tokio::task::yield_now().await;
    Ok(shop.effect(&ctx, "reserve", number))
}

#[activity(retry(max_attempts = 3, initial_interval = "5ms"))]
fn charge(ctx: ActivityContext, State(shop): State<Shop>, number: u32) -> duroxide::Result<String> {
    let key = shop.effect(&ctx, "charge", number);
    // As if the answer of the payment service were lost: the effect has happened, and the attempt fails.
    if number.is_multiple_of(3) && ctx.attempt() == 1 { Err(duroxide::Error::new("busy")) } else { Ok(key) }
}

#[activity]
fn quote(ctx: ActivityContext, State(shop): State<Shop>, number: u32) -> duroxide::Result<String> {
    Ok(shop.effect(&ctx, "quote", number))
}

#[activity]
fn print_invoice(ctx: ActivityContext, State(shop): State<Shop>, number: u32) -> duroxide::Result<String> {
    Ok(shop.effect(&ctx, "print_invoice", number))
}

#[activity]
async fn mail_invoice(ctx: ActivityContext, State(shop): State<Shop>, number: u32) -> duroxide::Result<String> {
    Ok(shop.effect(&ctx, "mail_invoice", number))
}

#[activity]
fn send(ctx: ActivityContext, State(shop): State<Shop>, number: u32) -> duroxide::Result<String> {
    let key = shop.effect(&ctx, "send", number);
    if Order::cannot_be_sent(number) { Err(duroxide::Error::new("refused by all carriers")) } else { Ok(key) }
}

#[activity]
fn refund(ctx: ActivityContext, State(shop): State<Shop>, number: u32) -> duroxide::Result<String> {
    Ok(shop.effect(&ctx, "refund", number))
}

/// Waits until the parent sends `release`; returns the id of the process that finished it.
#[orchestration]
pub(crate) async fn held_order(ctx: OrchestrationContext, number: u32) -> duroxide::Result<u32> {
    Ok(hold::call(&ctx, number).await?)
}

#[activity]
async fn hold(State(mut shop): State<Shop>, number: u32) -> duroxide::Result<u32> {
    report(&format!("holds {number}"));
    shop.released.wait_for(|released| *released).await?;
    Ok(std::process::id())
}

/// Returns the id of the process that ran it.
#[orchestration]
pub(crate) async fn quick_order(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(glance::call(&ctx).await?)
}

#[activity]
async fn glance() -> duroxide::Result<u32> {
    Ok(std::process::id())
}

/// Writes the winner to the ledger, and returns it.
#[orchestration]
pub(crate) async fn race_for_quote(ctx: OrchestrationContext, number: u32) -> duroxide::Result<String> {
    // The timer wins a quarter of the races, the activity another quarter; the others are close.
    let (delay, hangs) = match number % 4 {
        0 => (Duration::from_secs(3600), false),
        1 => (Duration::from_millis(1), true),
        _ => (Duration::from_millis(u64::from(number % 16) / 4), false),
    };
    let winner = select! {
        quote = quick_quote::call(&ctx, hangs) => quote.map(|()| "activity")?,
        () = ctx.sleep(delay) => "timer",
    };
    note_winner::call(&ctx, number, winner.to_owned()).await?;
    ctx.event::<Approval>().await;
    Ok(winner.to_owned())
}

#[activity]
async fn quick_quote(hangs: bool) -> duroxide::Result<()> {
    if hangs { std::future::pending().await } else { Ok(()) }
}

#[activity]
async fn note_winner(State(shop): State<Shop>, number: u32, winner: String) -> duroxide::Result<()> {
    shop.ledger.note(&format!("winner {number} {winner}"));
    report("noted");
    Ok(())
}
