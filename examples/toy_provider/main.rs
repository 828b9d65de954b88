//! The smallest complete storage: it keeps the contract of a provider, and nothing is fast or lasting.
//!
//! ```sh
//! cargo run --example toy_provider     # an orchestration on it
//! cargo test --example toy_provider    # the cases of the contract
//! ```
//!
//! Read it beside docs/provider-implementation-guide.md. A call is one transaction: it holds one lock, and rows are found by
//! looking at each. A database has statements in place of the loops, and indexes in place of the search.
//!
//! | file | content |
//! | --- | --- |
//! | `rows.rs` | the rows; messages and their numbers |
//! | `members.rs` | joins, renewals, take-overs; items that builds have rejected |
//! | `submit.rs` | starts, messages and requests of clients |
//! | `commit.rs` | turns and outcomes of nodes |
//! | `acquire.rs` | requests for work, and claims |
//! | `provider.rs` | the trait, the signals, the status of an instance |
//! | `tests.rs` | the conformance suite |

mod acquire;
mod commit;
mod members;
mod provider;
mod rows;
mod submit;
#[cfg(test)]
mod tests;

use duroxide::prelude::*;

use crate::provider::ToyProvider;

#[activity]
async fn greet(name: String) -> duroxide::Result<String> {
    Ok(format!("hello, {name}"))
}

#[orchestration]
async fn greet_all(ctx: OrchestrationContext, names: Vec<String>) -> duroxide::Result<Vec<String>> {
    Ok(try_join_all(names.into_iter().map(|name| greet::call(&ctx, name))).await?)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let provider = ToyProvider::default();
    let runtime = Runtime::builder().provider(provider.clone()).start().await?;
    // A client without a runtime, as another process would have it.
    let client = Client::new(provider);
    let names = ["Ada", "Grace"].map(str::to_owned).to_vec();
    let handle = greet_all::start(&client, "greetings", names).await?;
    for greeting in handle.result().await? {
        println!("{greeting}");
    }
    runtime.shutdown().await?;
    Ok(())
}
