//! State of the program for activities: connections, clients, configuration. Orchestrations cannot take any.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use duroxide::prelude::*;

/// One value for each type, cloned for each attempt of an activity. A large or shared value is behind an `Arc`.
#[derive(Clone, Default)]
struct Mailer {
    sent: Arc<AtomicU32>,
}

#[derive(Clone)]
struct Config {
    sender: String,
}

/// A trait object, whose implementation a test can replace.
trait Rates: Send + Sync {
    fn euros(&self, cents: u64) -> f64;
}

struct TodaysRates;

impl Rates for TodaysRates {
    fn euros(&self, cents: u64) -> f64 {
        cents as f64 / 108.0
    }
}

/// Parameters of the form `State<T>` come from the program; the others are the input, and are recorded.
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
        sent = send_offer::call(&ctx, customer, 1999).await?; // the caller passes only the input
    }
    Ok(sent)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("first a start with missing state, then a complete one");
    let (mailer, config) = (Mailer::default(), Config { sender: "shop@example.org".to_owned() });
    let rates: Arc<dyn Rates> = Arc::new(TodaysRates);

    // A missing state is reported when the runtime starts, not when the activity is called a month later.
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

    // The function can still be called directly: in a unit test, without a runtime.
    let sent = send_offer(State(mailer), State(config), State(rates), "a test".to_owned(), 1).await?;
    println!("and one more, called directly: {sent}");
    Ok(())
}
