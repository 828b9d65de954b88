//! The orchestrations and activities that the workloads run.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duroxide::prelude::*;
use tokio::sync::watch;

use crate::ledger::Ledger;

/// An activity that returns its number.
#[activity]
pub async fn echo(n: u64) -> duroxide::Result<u64> {
    Ok(n)
}

/// An activity that returns its text.
#[activity]
pub async fn echo_text(text: String) -> duroxide::Result<String> {
    Ok(text)
}

/// Calls one activity.
#[orchestration]
pub async fn hello(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    Ok(echo::call(&ctx, n).await?)
}

/// Calls n activities, one after another.
#[orchestration]
pub async fn steps(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut last = 0;
    for i in 0..n {
        last = echo::call(&ctx, i).await?;
    }
    Ok(last)
}

/// Calls n activities side by side.
#[orchestration]
pub async fn fan(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut sum = 0;
    for result in join_all((0..n).map(|i| echo::call(&ctx, i))).await {
        sum += result?;
    }
    Ok(sum)
}

/// Sleeps, and returns the time at which it was due to wake, in microseconds since the epoch.
#[orchestration]
pub async fn nap(ctx: OrchestrationContext, millis: u64) -> duroxide::Result<i64> {
    let due = ctx.now() + Duration::from_millis(millis);
    ctx.sleep(Duration::from_millis(millis)).await;
    Ok(due.as_micros())
}

/// The event that orchestrations wait for.
#[event]
pub struct Go {
    /// A number that identifies the event.
    pub n: u64,
}

/// The number of instances of [`waits()`] that have begun in this process.
pub static WAITING: AtomicU64 = AtomicU64::new(0);

/// Waits for one event.
#[orchestration]
pub async fn waits(ctx: OrchestrationContext) -> duroxide::Result<u64> {
    WAITING.fetch_add(1, Ordering::Relaxed);
    Ok(ctx.event::<Go>().await.n)
}

/// The highest number that an event brought to an instance of [`awaits_events()`].
pub static LAST_EVENT: LazyLock<watch::Sender<u64>> = LazyLock::new(watch::Sender::default);

/// Calls n activities, and then awaits one event after another, for ever.
#[orchestration]
pub async fn awaits_events(ctx: OrchestrationContext, n: u64) -> duroxide::Result<()> {
    for i in 0..n {
        echo::call(&ctx, i).await?;
    }
    loop {
        let n = ctx.event::<Go>().await.n;
        LAST_EVENT.send_if_modified(|last| {
            let more = n > *last;
            *last = n.max(*last);
            more
        });
    }
}

/// Calls n children side by side, each with one activity.
#[orchestration]
pub async fn family(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut sum = 0;
    for result in join_all((0..n).map(|i| hello::call(&ctx, i))).await {
        sum += result?;
    }
    Ok(sum)
}

/// Passes a text to an activity and back.
#[orchestration]
pub async fn carry(ctx: OrchestrationContext, text: String) -> duroxide::Result<usize> {
    Ok(echo_text::call(&ctx, text).await?.len())
}

/// Calls n activities, and then awaits an event, for which a restarted runtime has to replay the history.
#[orchestration]
pub async fn steps_then_event(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    for i in 0..n {
        echo::call(&ctx, i).await?;
    }
    Ok(ctx.event::<Go>().await.n)
}

/// An activity with an effect: each run writes a line to the ledger.
#[activity]
pub async fn note(ctx: ActivityContext, instance: u64, step: u64) -> duroxide::Result<u64> {
    // As a parameter `State<Ledger>`, it would require the state in all workloads, but only one has a ledger.
    let State(ledger) = ctx.state::<Ledger>().ok_or_else(|| duroxide::Error::new("no ledger"))?;
    Ok(ledger.note(instance, step).await?)
}

/// Calls n activities with an effect, one after another.
#[orchestration]
pub async fn notes(ctx: OrchestrationContext, instance: u64, n: u64) -> duroxide::Result<u64> {
    let mut last = 0;
    for step in 0..n {
        last = note::call(&ctx, instance, step).await?;
    }
    Ok(last)
}
