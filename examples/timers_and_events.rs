//! Waits for a time, for an external event, and for the first of both.

use std::time::Duration;

use duroxide::prelude::*;

/// An external event: its name and its payload in one place, for typed `raise` and `event`.
#[event]
struct Comment {
    text: String,
}

#[event]
struct Approval {
    by: String,
}

#[activity]
async fn remind(user: String, time: u32) -> duroxide::Result<()> {
    println!("  reminder {time} to {user}");
    Ok(())
}

/// The durations are short so that the example ends soon. Days or months work as well: a timer is a row in the storage,
/// not a thread, and fires even if the process was down at its time.
const BETWEEN_REMINDERS: Duration = Duration::from_millis(150);
const DEADLINE: Duration = Duration::from_millis(700);

#[orchestration]
async fn review(ctx: OrchestrationContext, document: String) -> duroxide::Result<String> {
    ctx.sleep(Duration::from_millis(100)).await;
    tracing::info!("{document} is open for review");

    // One timer for the whole loop: each round polls the same future again.
    let mut deadline = ctx.sleep(DEADLINE);
    let mut reminders = 0;
    let verdict = loop {
        // Branches are polled in source order, so that a replay takes the same one.
        select! {
            approval = ctx.event::<Approval>() => break format!("approved by {}", approval.by),
            () = &mut deadline => break "not approved in time".to_owned(),
            () = ctx.sleep(BETWEEN_REMINDERS) => {
                reminders += 1;
                remind::call(&ctx, "the boss".to_owned(), reminders).await?;
            }
        }
    };

    // Events that come early wait in a mailbox, in order, until they are read.
    if let Some(first) = ctx.try_event::<Comment>() {
        tracing::info!("the first comment: {}", first.text);
    }
    let others = ctx.drain::<Comment>();
    Ok(format!("{document} {verdict}, after {reminders} reminders and {} more comments", others.len()))
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("two documents: one is approved, the other one is forgotten");
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = Runtime::builder().in_memory().start().await?;
    let client = runtime.client();

    let approved = review::start(&client, "review-1", "contract".to_owned()).await?;
    let forgotten = review::start(&client, "review-2", "poem".to_owned()).await?;
    for text in ["typo on page 1", "fine with me", "and me"] {
        approved.raise(Comment { text: text.to_owned() }).await?; // long before they are read
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    println!("the boss approves the contract");
    // Any other program with a client on the same storage could send it, too.
    approved.raise(Approval { by: "the boss".to_owned() }).await?;

    println!("{}", approved.result().await?);
    println!("{}", forgotten.result().await?);
    runtime.shutdown().await?;
    Ok(())
}
