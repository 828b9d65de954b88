//! What activities need from the program: connections, clients, configuration. Orchestrations need none, and can take none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::prelude::*;

/// One value per type, cloned for each run of an activity. What is big or shared stands behind an `Arc`.
#[derive(Clone, Default)]
struct Mailer {
    sent: Arc<AtomicU32>,
}

#[derive(Clone)]
struct Config {
    sender: String,
}

/// A trait object, to put another implementation in its place.
trait Rates: Send + Sync {
    fn euros(&self, cents: u64) -> f64;
}

struct TodaysRates;

impl Rates for TodaysRates {
    fn euros(&self, cents: u64) -> f64 {
        cents as f64 / 108.0
    }
}

/// Parameters of the form `State<T>` are taken from the program; the others are the input, and are recorded.
#[activity]
async fn send_offer(
    State(mailer): State<Mailer>,
    State(config): State<Config>,
    State(rates): State<Arc<dyn Rates>>,
    to: String,
    cents: u64,
) -> duroxide::Result<u32> {
    println!("  from {} to {to}: only {:.2} EUR", config.sender, rates.euros(cents));
    Ok(mailer.sent.fetch_add(1, Ordering::Relaxed) + 1)
}

#[orchestration]
async fn campaign(ctx: OrchestrationContext, customers: Vec<String>) -> duroxide::Result<u32> {
    let mut sent = 0;
    for customer in customers {
        sent = send_offer::call(&ctx, customer, 1999).await?; // the caller sees the input only
    }
    Ok(sent)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("first a start that lacks something, then one that has all");
    let (mailer, config) = (Mailer::default(), Config { sender: "shop@example.org".to_owned() });
    let rates: Arc<dyn Rates> = Arc::new(TodaysRates);

    // What is missing is seen when the runtime starts, not when the activity is called a month later.
    match Runtime::builder().in_memory().state(mailer.clone()).start().await {
        Ok(_) => println!("this does not happen"),
        Err(error) => println!("refused: {error}"),
    }

    let runtime =
        Runtime::builder().in_memory().state(mailer.clone()).state(config.clone()).state(rates.clone()).start().await?;
    let customers = ["ann", "bob"].map(str::to_owned).to_vec();
    let handle = campaign::start(&runtime.client(), "spring", customers).await?;
    println!("{} offers were sent", handle.result().await?);
    runtime.shutdown().await?;

    // The function is still a function: a unit test calls it with what it likes, without a runtime.
    let sent = send_offer(State(mailer), State(config), State(rates), "a test".to_owned(), 1).await?;
    println!("and one more by hand: {sent}");
    Ok(())
}
