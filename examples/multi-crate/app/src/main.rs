//! A program made of crates that do not depend on each other: `cargo run -p multi-crate-app`.
//!
//! It registers nothing: the runtime discovers the annotated functions of every linked crate.

// The linker leaves out a dependency that no code names, with its functions. These lines name both.
use billing as _;
use shipping as _;

use contracts::{Agreed, Order, checkout};
use duroxide::Registry;
use duroxide::prelude::*;

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("functions of the linked crates:");
    for entry in Registry::discover().entries() {
        println!("  {:12} from {:9} {}", entry.name(), entry.place().crate_name, entry.place().doc);
    }
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();

    // A failed start is better than an instance that waits for missing code.
    match Runtime::builder().in_memory().expect_crate("warehouse").start().await {
        Ok(_) => println!("this does not happen"),
        Err(error) => println!("refused: {error}"),
    }
    let runtime = Runtime::builder().in_memory().expect_crate("billing").expect_crate("shipping").start().await?;

    let order = Order { number: 17, item: "a kite".to_owned(), cents: 2500 };
    let handle = checkout::start(&runtime.client(), "order-17", order).await?;
    handle.raise(Agreed { when: "just now".to_owned() }).await?;
    match handle.result().await {
        Ok(result) => println!("done: {result}"),
        Err(error) => println!("not done: {error}"),
    }
    runtime.shutdown().await?;

    // A node that does part of the work needs only part of the registry.
    let warehouse = Registry::discover().only_crate("shipping").except("print_label");
    let names: Vec<_> = warehouse.entries().map(|entry| entry.name().to_owned()).collect();
    println!("a node of the warehouse alone would run {names:?}");
    Ok(())
}
