//! The smallest program: an activity does the work, an orchestration coordinates, and the runtime runs both.

use duroxide::prelude::*;

/// An *activity* does real work: whatever talks to the world or takes time. It is an ordinary async function.
#[activity]
async fn greet(name: String) -> duroxide::Result<String> {
    println!("  greeting {name}");
    Ok(format!("hello, {name}"))
}

/// An *orchestration* says what is to be done, and in which order. Every step that was done is recorded; after a crash the
/// function is run again up to where it was, with the recorded results in place of the work.
///
/// The attribute puts a type of the same name beside each function: `greet::call` is the recorded call of `greet`.
#[orchestration]
async fn welcome(ctx: OrchestrationContext, names: Vec<String>) -> duroxide::Result<Vec<String>> {
    let mut greetings = Vec::new();
    for name in names {
        greetings.push(greet::call(&ctx, name).await?);
    }
    Ok(greetings)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("starting a runtime with its state in memory");
    // It finds every annotated function by itself. With `.sqlite("hello.db")` the state would outlive the process.
    let runtime = Runtime::builder().in_memory().start().await?;

    // An instance is named by whoever starts it, so that it can be found again. Wrong types do not compile.
    let names = vec!["world".to_owned(), "everyone".to_owned()];
    let handle = welcome::start(&runtime.client(), "first", names).await?;
    println!("the result: {:?}", handle.result().await?);

    println!("{} events were recorded on the way", handle.history().await?.len());
    runtime.shutdown().await
}
