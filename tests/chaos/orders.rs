//! The orders: each uses several of timers, activities with retries, children, events, races and several executions. Each step
//! records its effect under its idempotency key, and returns the key.

use std::collections::BTreeMap;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide_postgres::Tx;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::effects::Effects;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u32,
    /// The number of parcels that are still to be sent, each by an execution of its own.
    parcels: u32,
    /// The idempotency keys of the finished activities.
    steps: Vec<String>,
}

impl Order {
    fn new(number: u32) -> Self {
        Self { number, parcels: if number % 5 == 3 { 3 } else { 1 }, steps: Vec::new() }
    }

    pub(crate) fn id(number: u32) -> String {
        format!("order-{number}")
    }

    /// The number of events that the order waits for.
    fn approvals(number: u32) -> u32 {
        if number.is_multiple_of(5) { 3 } else { 0 }
    }

    pub(crate) fn has_invoice(number: u32) -> bool {
        number % 5 == 1
    }

    pub(crate) fn cannot_be_sent(number: u32) -> bool {
        number.is_multiple_of(7)
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum OrderError {
    /// The order could not be sent, and was refunded.
    #[error("it could not be sent: {0:?}")]
    NotSent(Vec<String>),
    #[error("{0}")]
    Step(#[from] CallError<duroxide::Error>),
}

#[event]
pub(crate) struct ChaosApproval(u32);

#[orchestration]
pub(crate) async fn chaos_order(ctx: OrchestrationContext, order: Order) -> Result<Vec<String>, OrderError> {
    let Order { number, parcels, mut steps } = order;
    if steps.is_empty() {
        steps.push(chaos_step::call(&ctx, number, "reserve".to_owned()).await?);
        steps.push(chaos_charge::call(&ctx, number).await?);
        steps.push(chaos_pay::call(&ctx, number).await?);
        ctx.sleep(Duration::from_millis(u64::from(number % 11) * 40)).await;
        match number % 5 {
            0 => {
                for part in 0..Order::approvals(number) {
                    assert_eq!(ctx.event::<ChaosApproval>().await.0, part, "the events come in order, and once");
                }
            }
            1 => steps.extend(chaos_invoice::call(&ctx, number).id(format!("invoice-{number}")).await?),
            2 => select! {
                quote = chaos_step::call(&ctx, number, "quote".to_owned()) => steps.push(quote?),
                () = ctx.sleep(Duration::from_millis(8)) => {}
            },
            3 => {
                for quote in join_all((0..3).map(|_| chaos_step::call(&ctx, number, "quote".to_owned()))).await {
                    steps.push(quote?);
                }
            }
            _ => ctx.sleep(Duration::from_millis(2000 + u64::from(number % 64) * 100)).await,
        }
    }
    match chaos_send::call(&ctx, number).await {
        Ok(key) => steps.push(key),
        Err(_) => {
            steps.push(chaos_step::call(&ctx, number, "refund".to_owned()).await?);
            return Err(OrderError::NotSent(steps));
        }
    }
    if parcels > 1 {
        return chaos_order::continue_as_new(&ctx, Order { number, parcels: parcels - 1, steps }).await;
    }
    Ok(steps)
}

#[orchestration]
async fn chaos_invoice(ctx: OrchestrationContext, number: u32) -> duroxide::Result<Vec<String>> {
    let printed = chaos_step::call(&ctx, number, "print".to_owned()).await?;
    ctx.sleep(Duration::from_millis(30)).await;
    Ok(vec![printed, chaos_step::call(&ctx, number, "mail".to_owned()).await?])
}

async fn effect(ctx: &ActivityContext, effects: &Effects, step: &str, number: u32) -> String {
    let key = ctx.idempotency_key();
    effects.record(&key, &format!("{step}-{number}")).await;
    key
}

#[activity]
async fn chaos_step(
    ctx: ActivityContext,
    State(effects): State<Effects>,
    number: u32,
    step: String,
) -> duroxide::Result<String> {
    Ok(effect(&ctx, &effects, &step, number).await)
}

#[activity(retry(max_attempts = 3, initial_interval = "5ms"))]
async fn chaos_charge(ctx: ActivityContext, State(effects): State<Effects>, number: u32) -> duroxide::Result<String> {
    let key = effect(&ctx, &effects, "charge", number).await;
    // As if the answer of the payment service were lost: the effect has happened, and the attempt fails.
    if number.is_multiple_of(3) && ctx.attempt() == 1 { Err(duroxide::Error::new("busy")) } else { Ok(key) }
}

/// Its effect and its outcome are one transaction.
#[activity(transactional, retry(max_attempts = 3, initial_interval = "5ms"))]
async fn chaos_pay(tx: &mut Tx<'_>, ctx: ActivityContext, number: u32) -> duroxide::Result<String> {
    let key = ctx.idempotency_key();
    tx.execute("INSERT INTO payments (key, step) VALUES ($1, $2)", &[&key, &format!("pay-{number}")]).await?;
    // The payment of a failed attempt is rolled back.
    if number % 4 == 1 && ctx.attempt() == 1 { Err(duroxide::Error::new("busy")) } else { Ok(key) }
}

#[activity]
async fn chaos_send(ctx: ActivityContext, State(effects): State<Effects>, number: u32) -> duroxide::Result<String> {
    let key = effect(&ctx, &effects, "send", number).await;
    if Order::cannot_be_sent(number) { Err(duroxide::Error::new("the address is unknown")) } else { Ok(key) }
}

/// The result of an order: its steps, and true if it was sent.
pub(crate) type Done = (Vec<String>, bool);

/// Starts all orders within this time, and returns the result of each.
pub(crate) async fn run_all(clients: Vec<Client>, orders: u32, within: Duration) -> BTreeMap<u32, Done> {
    let mut running = JoinSet::new();
    let mut next = tokio::time::interval(within / orders);
    for number in 0..orders {
        next.tick().await;
        let client = clients[number as usize % clients.len()].clone();
        running.spawn(async move { (number, run_one(&client, number).await) });
    }
    let mut results = BTreeMap::new();
    while let Some(done) = running.join_next().await {
        let (number, done) = done.unwrap();
        assert_eq!(results.insert(number, done), None);
    }
    results
}

/// Each request has an id by which its repetitions are recognised, so that a lost answer does no harm.
async fn run_one(client: &Client, number: u32) -> Done {
    let id = Order::id(number);
    let handle =
        chaos_order::start(client, &id, Order::new(number)).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    for part in 0..Order::approvals(number) {
        handle.raise(ChaosApproval(part)).await.unwrap_or_else(|error| panic!("{id}, event {part}: {error}"));
    }
    result(handle.result().await, number)
}

pub(crate) fn result(result: Result<Vec<String>, OutcomeError<OrderError>>, number: u32) -> Done {
    match result {
        Ok(steps) => (steps, true),
        Err(OutcomeError::Failed(OrderError::NotSent(steps))) => (steps, false),
        Err(error) => panic!("order {number}: {error:?}"),
    }
}
