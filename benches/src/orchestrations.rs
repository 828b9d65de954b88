//! The orchestrations and activities of the workloads.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duroxide::prelude::*;
use tokio::sync::watch;

use crate::ledger::Ledger;

/// An activity that does nothing.
#[activity]
pub async fn echo(n: u64) -> duroxide::Result<u64> {
    Ok(n)
}

/// An activity that returns its input.
#[activity]
pub async fn echo_text(text: String) -> duroxide::Result<String> {
    Ok(text)
}

/// One activity.
#[orchestration]
pub async fn hello(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    Ok(echo::call(&ctx, n).await?)
}

/// n activities, one after another.
#[orchestration]
pub async fn steps(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut last = 0;
    for i in 0..n {
        last = echo::call(&ctx, i).await?;
    }
    Ok(last)
}

/// n concurrent activities.
#[orchestration]
pub async fn fan(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut sum = 0;
    for result in join_all((0..n).map(|i| echo::call(&ctx, i))).await {
        sum += result?;
    }
    Ok(sum)
}

/// Sleeps, and returns its due time: microseconds since the epoch.
#[orchestration]
pub async fn nap(ctx: OrchestrationContext, millis: u64) -> duroxide::Result<i64> {
    let due = ctx.now() + Duration::from_millis(millis);
    ctx.sleep(Duration::from_millis(millis)).await;
    Ok(due.as_micros())
}

/// An event.
#[event]
pub struct Go {
    /// Anything.
    pub n: u64,
}

/// The number of instances of [`waits()`] that were called in this process.
pub static WAITING: AtomicU64 = AtomicU64::new(0);

/// Waits for one event.
#[orchestration]
pub async fn waits(ctx: OrchestrationContext) -> duroxide::Result<u64> {
    WAITING.fetch_add(1, Ordering::Relaxed);
    Ok(ctx.event::<Go>().await.n)
}

/// The highest number that an event brought to an instance of [`listens()`].
pub static HEARD: LazyLock<watch::Sender<u64>> = LazyLock::new(watch::Sender::default);

/// n activities, and then an endless loop that waits for events.
#[orchestration]
pub async fn listens(ctx: OrchestrationContext, n: u64) -> duroxide::Result<()> {
    for i in 0..n {
        echo::call(&ctx, i).await?;
    }
    loop {
        let n = ctx.event::<Go>().await.n;
        HEARD.send_if_modified(|heard| {
            let more = n > *heard;
            *heard = n.max(*heard);
            more
        });
    }
}

/// n concurrent children, each with one activity.
#[orchestration]
pub async fn family(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut sum = 0;
    for result in join_all((0..n).map(|i| hello::call(&ctx, i))).await {
        sum += result?;
    }
    Ok(sum)
}

/// A text through one activity and back.
#[orchestration]
pub async fn carry(ctx: OrchestrationContext, text: String) -> duroxide::Result<usize> {
    Ok(echo_text::call(&ctx, text).await?.len())
}

/// n activities, and then a wait for an event. Its history is replayed.
#[orchestration]
pub async fn remembers(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    for i in 0..n {
        echo::call(&ctx, i).await?;
    }
    Ok(ctx.event::<Go>().await.n)
}

/// An activity with an effect: each run is recorded in the ledger.
#[activity]
pub async fn note(ctx: ActivityContext, instance: u64, step: u64) -> duroxide::Result<u64> {
    // Optional, and so not a `State<T>` parameter: only one workload has a ledger.
    let State(ledger) = ctx.state::<Ledger>().ok_or_else(|| duroxide::Error::new("no ledger"))?;
    Ok(ledger.note(instance, step).await?)
}

/// n activities with an effect, one after another.
#[orchestration]
pub async fn notes(ctx: OrchestrationContext, instance: u64, n: u64) -> duroxide::Result<u64> {
    let mut last = 0;
    for step in 0..n {
        last = note::call(&ctx, instance, step).await?;
    }
    Ok(last)
}
