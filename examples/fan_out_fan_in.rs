//! Many activities at once: join all with their failures, and race several for the fastest.

use std::time::Duration;

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

/// Counts the words of a page, slowly.
#[activity]
async fn count_words(page: String) -> Result<usize, String> {
    println!("  counting {page:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let words = page.split_whitespace().count();
    if words == 0 { Err("an empty page".to_owned()) } else { Ok(words) }
}

/// Asks one mirror of a service.
#[activity]
async fn ask(mirror: String, millis: u64) -> duroxide::Result<String> {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    println!("  {mirror} answers");
    Ok(mirror)
}

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    words: usize,
    failures: Vec<String>,
    fastest: String,
}

#[orchestration]
async fn count_book(ctx: OrchestrationContext, pages: Vec<String>) -> duroxide::Result<Report> {
    // Fan out: a call is a future. `join_all` runs them concurrently, and returns the results in the order of the
    // calls.
    let begun = ctx.now();
    let results = join_all(pages.into_iter().map(|page| count_words::call(&ctx, page))).await;
    tracing::info!("all pages took {:?} together", ctx.now().since(begun));

    // Fan in: a failed call does not affect the others.
    let mut report = Report { words: 0, failures: Vec::new(), fastest: String::new() };
    for result in results {
        match result {
            Ok(words) => report.words += words,
            Err(error) => report.failures.push(error.to_string()),
        }
    }

    // The first call wins; the others are dropped, which cancels their activities.
    let mirrors = [("north", 500), ("south", 50), ("east", 400)];
    let calls = mirrors.map(|(mirror, millis)| ask::call(&ctx, mirror.to_owned(), millis));
    let (position, fastest) = race(calls).await;
    tracing::info!("mirror {position} was the fastest");
    report.fastest = fastest?;

    // A fixed number of different things: `join!`.
    let ((), last) = join!(ctx.sleep(Duration::from_millis(50)), count_words::call(&ctx, "the end".to_owned()));
    report.words += last?;
    Ok(report)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("counting the words of a book, all pages at once");
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = Runtime::builder().in_memory().start().await?;

    let pages = ["call me ishmael", "some years ago", "", "never mind how long precisely"];
    let pages = pages.map(str::to_owned).to_vec();
    let handle = count_book::start(&runtime.client(), "moby-dick", pages).await?;
    println!("{:#?}", handle.result().await?);
    runtime.shutdown().await?;
    Ok(())
}
