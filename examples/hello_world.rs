//! The smallest program: an activity does the work, an orchestration coordinates, and the runtime runs both.

use duroxide::prelude::*;

/// An *activity* does real work: it has effects outside, or takes time. It is an ordinary async function.
#[activity]
async fn greet(name: String) -> duroxide::Result<String> {
    println!("  greeting {name}");
    Ok(format!("hello, {name}"))
}

/// An *orchestration* coordinates activities. Every completed step is recorded; after a crash the function is replayed
/// up to the point that it had reached, with the recorded results in place of the work.
///
/// The attribute adds a type of the same name to each function: `greet::call` is the recorded call of `greet`.
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
    // Prints log lines, such as the start of an orchestration, or the reason why one is suspended.
    tracing_subscriber::fmt().init();
    println!("starting a runtime with its state in memory");
    // It discovers every annotated function. With `.sqlite("hello.db")` the state would outlive the process.
    let runtime = Runtime::builder().in_memory().start().await?;

    // The caller chooses the id of the instance, to find it again. Wrong types do not compile.
    let names = vec!["world".to_owned(), "everyone".to_owned()];
    let handle = welcome::start(&runtime.client(), "first", names).await?;
    println!("the result: {:?}", handle.result().await?);

    println!("its history has {} events", handle.history().await?.len());
    runtime.shutdown().await?;
    Ok(())
}
