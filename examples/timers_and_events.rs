//! Waiting: for a time, for somebody outside, and for whichever comes first.

use std::time::Duration;

use duroxide::prelude::*;

/// An external event: its name and its payload in one place. Only this type can be raised and awaited under its name.
#[event]
struct Comment {
    text: String,
}

#[event]
struct Approval {
    by: String,
}

#[activity]
async fn remind(who: String, time: u32) -> duroxide::Result<()> {
    println!("  reminder {time} to {who}");
    Ok(())
}

/// Durations are short here to end soon. Days or months work as well: a timer is a row in the storage, not a thread, and
/// is due at its time even when the process was down meanwhile.
const BETWEEN_REMINDERS: Duration = Duration::from_millis(150);
const DEADLINE: Duration = Duration::from_millis(700);

#[orchestration]
async fn review(ctx: OrchestrationContext, document: String) -> duroxide::Result<String> {
    ctx.sleep(Duration::from_millis(100)).await;
    tracing::info!("{document} is open for review");

    // One timer for the whole loop: it is polled again in each round, and goes on.
    let mut deadline = ctx.sleep(DEADLINE);
    let mut reminders = 0;
    let verdict = loop {
        // Branches are polled in the order in which they stand, so that a replay takes the same one.
        select! {
            approval = ctx.event::<Approval>() => break format!("approved by {}", approval.by),
            () = &mut deadline => break "not approved in time".to_owned(),
            () = ctx.sleep(BETWEEN_REMINDERS) => {
                reminders += 1;
                remind::call(&ctx, "the boss".to_owned(), reminders).await?;
            }
        }
    };

    // Events wait in a mailbox until they are read, in order, however early they came.
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
        approved.raise(Comment { text: text.to_owned() }).await?; // long before anybody reads them
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    println!("the boss approves the contract");
    // Not only from here: any program with a client on the same storage can send it.
    approved.raise(Approval { by: "the boss".to_owned() }).await?;

    println!("{}", approved.result().await?);
    println!("{}", forgotten.result().await?);
    runtime.shutdown().await
}
