//! `handle = Name` renames the type, if a module or type has the name of the function; `name` sets the recorded name.
use duroxide::prelude::*;

mod charge {
    pub(crate) const FEE: u8 = 1;
}

/// Charges.
#[activity(name = "payments/charge", handle = Charge, retry(if = |error: &String| error.is_empty()))]
async fn charge(cents: u8) -> Result<u8, String> {
    Ok(cents + charge::FEE)
}

#[orchestration(handle = Checkout, version = "1.2.3-rc.1")]
async fn checkout(ctx: OrchestrationContext, round: u8) -> Result<u8, String> {
    if round < 3 {
        return Checkout::continue_as_new(&ctx, round + 1).await;
    }
    Charge::call(&ctx, round).await.map_err(|_| String::new())
}

fn main() {
    let _ = checkout;
    assert_eq!((Charge::NAME, Checkout::NAME, Checkout::VERSION), ("payments/charge", "checkout", "1.2.3-rc.1"));
    assert!(<Charge as ActivityFn>::is_retryable(&String::new()));
}
