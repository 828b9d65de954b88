//! The code of the recorded histories. It must never change, so that a history that fails to replay shows a fault of the
//! library.

use std::time::Duration;

use duroxide::Registry;
use duroxide::history::Failure;
use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

/// Returns the registry of the recorded orchestrations and activities.
pub(super) fn registry() -> Registry {
    Registry::empty()
        .with_activity::<double>()
        .with_activity::<refuse>()
        .with_activity::<panic>()
        .with_activity::<echo>()
        .with_activity::<unserved>()
        .with_blocking_activity::<block>()
        .with_orchestration::<activities>()
        .with_orchestration::<waits>()
        .with_orchestration::<children>()
        .with_orchestration::<child>()
        .with_orchestration::<listener>()
        .with_orchestration::<returns_err>()
        .with_orchestration::<panics>()
        .with_orchestration::<sleeper>()
        .with_orchestration::<compensates>()
        .with_orchestration::<counts>()
        .with_orchestration::<reads_number>()
        .with_orchestration::<closes_children>()
        .with_orchestration::<orders>()
        .with_orchestration::<watches>()
        .with_orchestration::<too_long>()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

#[event(name = "golden-word")]
pub(super) struct Word {
    pub(super) text: String,
}

#[event(name = "golden-number")]
pub(super) struct Number {
    pub(super) n: u64,
}

#[activity(name = "golden-double")]
async fn double(n: u64) -> duroxide::Result<u64> {
    Ok(n * 2)
}

#[activity(name = "golden-refuse", retry(max_attempts = 2, initial_interval = "1s"))]
async fn refuse(reason: String) -> Result<u64, Refusal> {
    Err(Refusal { reason })
}

#[activity(name = "golden-panic")]
async fn panic() -> duroxide::Result<()> {
    panic!("an activity that panics")
}

#[activity(name = "golden-echo")]
async fn echo(text: String, times: u32) -> duroxide::Result<String> {
    Ok(text.repeat(times as usize))
}

/// An activity that is called with a tag that no node serves.
#[activity(name = "golden-unserved")]
async fn unserved() -> duroxide::Result<()> {
    Ok(())
}

#[activity(name = "golden-block")]
fn block(n: u64) -> duroxide::Result<u64> {
    Ok(n + 1)
}

/// Calls activities in every way, with every kind of outcome.
#[orchestration(name = "golden-activities")]
pub(super) async fn activities(ctx: OrchestrationContext, n: u64) -> duroxide::Result<Vec<String>> {
    let mut said = Vec::new();
    said.push(double::call(&ctx, n).await?.to_string());
    said.push(refuse::call(&ctx, "no".to_owned()).await.unwrap_err().to_string());
    said.push(panic::call(&ctx).await.unwrap_err().to_string());
    said.push(block::call(&ctx, n).await?.to_string());
    said.push(echo::call(&ctx, "0123456789abcdef".to_owned(), 300).await?.len().to_string());
    let late = unserved::call(&ctx).tag("nowhere").schedule_to_close(Duration::from_secs(60)).await;
    said.push(late.unwrap_err().to_string());
    let dropped = select! {
        _ = unserved::call(&ctx).tag("nowhere") => "served",
        () = ctx.sleep(Duration::from_secs(1)) => "dropped",
    };
    said.push(dropped.to_owned());
    let numbers = join_all((0..3).map(|n| double::call(&ctx, n))).await;
    said.push(numbers.into_iter().map(|n| n.unwrap_or(0)).sum::<u64>().to_string());
    let _detached = double::call(&ctx, 50).detached().start();
    let by_name = ctx.call_activity::<u64>("golden-double", &21).await;
    said.push(by_name.unwrap_or(0).to_string());
    let refused = ctx.call_activity::<u64>("", &21).await;
    said.push(refused.is_err().to_string());
    Ok(said)
}

/// Waits in every way, and uses the values that a history determines: time, random numbers, ids.
#[orchestration(name = "golden-waits")]
pub(super) async fn waits(ctx: OrchestrationContext) -> duroxide::Result<Vec<String>> {
    let begun = ctx.now();
    let mut said = vec![ctx.uuid().to_string(), ctx.random().to_string()];
    ctx.sleep(hours(5)).await;
    said.push(format!("{:?}", ctx.now() > begun));
    for _ in 0..2 {
        let first = select! {
            word = ctx.event::<Word>() => word.text,
            () = ctx.sleep(days(1)) => "nothing for a day".to_owned(),
        };
        said.push(first);
    }
    let (word, number) = join!(ctx.event::<Word>(), ctx.event::<Number>());
    said.push(format!("{} {}", word.text, number.n));
    double::call(&ctx, number.n).await?;
    Ok(said)
}

#[orchestration(name = "golden-child", version = "1.2.0")]
pub(super) async fn child(ctx: OrchestrationContext, n: u64) -> Result<u64, Refusal> {
    ctx.sleep(Duration::from_secs(n)).await;
    if n == 13 { Err(Refusal { reason: "unlucky".to_owned() }) } else { Ok(n * 10) }
}

/// Starts orchestrations in every way, with every kind of outcome.
#[orchestration(name = "golden-children")]
pub(super) async fn children(ctx: OrchestrationContext, taken: String) -> duroxide::Result<Vec<String>> {
    let mut said = Vec::new();
    said.push(child::call(&ctx, 1).await?.to_string());
    said.push(child::call(&ctx, 2).id("golden-named-child").version("1.2.0").await?.to_string());
    said.push(child::call(&ctx, 13).await.unwrap_err().to_string());
    said.push(child::call(&ctx, 3).id(taken.clone()).await.unwrap_err().to_string());
    let dropped = select! {
        _ = child::call(&ctx, 100_000) => "it ended",
        () = ctx.sleep(Duration::from_secs(5)) => "dropped",
    };
    said.push(dropped.to_owned());
    said.push(child::call(&ctx, 4).id("golden-detached-child").detached().await?.to_string());
    said.push(child::call(&ctx, 5).id(taken).detached().await.unwrap_err().to_string());
    let pair = join!(child::call(&ctx, 6), child::call(&ctx, 7));
    said.push(format!("{} {}", pair.0?, pair.1?));
    Ok(said)
}

/// Is terminated by its parent.
#[orchestration(name = "golden-listener")]
pub(super) async fn listener(ctx: OrchestrationContext) -> duroxide::Result<String> {
    Ok(ctx.event::<Word>().await.text)
}

/// Ends with open children that are closed in two ways.
#[orchestration(name = "golden-closes-children")]
pub(super) async fn closes_children(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let _terminated =
        listener::call(&ctx).id("golden-terminated-child").on_parent_close(ClosePolicy::Terminate).start();
    let _cancelled = listener::call(&ctx).id("golden-cancelled-child").start();
    ctx.sleep(Duration::from_secs(1)).await;
    Ok(())
}

#[orchestration(name = "golden-returns-err")]
pub(super) async fn returns_err(ctx: OrchestrationContext) -> Result<(), Refusal> {
    ctx.sleep(Duration::from_secs(1)).await;
    Err(Refusal { reason: "it did not work out".to_owned() })
}

#[orchestration(name = "golden-panics")]
pub(super) async fn panics(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(Duration::from_secs(1)).await;
    panic!("an orchestration that panics")
}

#[orchestration(name = "golden-sleeper")]
pub(super) async fn sleeper(ctx: OrchestrationContext) -> duroxide::Result<u64> {
    ctx.sleep(days(400)).await;
    Ok(double::call(&ctx, 4).await?)
}

#[orchestration(name = "golden-compensates")]
pub(super) async fn compensates(ctx: OrchestrationContext) -> duroxide::Result<String> {
    select! {
        reason = ctx.cancelled() => {
            double::call(&ctx, 1).await?;
            Ok(format!("undone: {reason}"))
        }
        () = ctx.sleep(days(400)) => Ok("slept".to_owned()),
    }
}

/// Reads one number in each execution.
#[orchestration(name = "golden-counts")]
pub(super) async fn counts(ctx: OrchestrationContext, left: u32, sum: u64) -> duroxide::Result<u64> {
    if left == 0 {
        return Ok(sum);
    }
    let n = ctx.event::<Number>().await.n;
    counts::continue_as_new(&ctx, left - 1, sum * 10 + n).await
}

/// Is suspended by an event with the name of a number whose value is not one.
#[orchestration(name = "golden-reads-number")]
pub(super) async fn reads_number(ctx: OrchestrationContext) -> duroxide::Result<u64> {
    let n = double::call(&ctx, 3).await?;
    Ok(n + ctx.event::<Number>().await.n)
}

/// Awaits children that an operator terminates and cancels.
#[orchestration(name = "golden-watches")]
pub(super) async fn watches(ctx: OrchestrationContext) -> duroxide::Result<Vec<String>> {
    let mut said = Vec::new();
    for id in ["golden-watched-1", "golden-watched-2"] {
        said.push(listener::call(&ctx).id(id).await.unwrap_err().to_string());
    }
    Ok(said)
}

/// Returns more than a payload may hold.
#[orchestration(name = "golden-too-long")]
pub(super) async fn too_long(ctx: OrchestrationContext) -> duroxide::Result<String> {
    ctx.sleep(Duration::from_secs(1)).await;
    Ok("x".repeat(3 << 20))
}

/// Calls an activity, awaits an event with a deadline, and calls a child. Used for the database.
#[orchestration(name = "golden-orders")]
pub(super) async fn orders(ctx: OrchestrationContext, note: String) -> duroxide::Result<String> {
    let copy = echo::call(&ctx, note, 2).await?;
    let word = select! {
        word = ctx.event::<Word>() => word.text,
        () = ctx.sleep(days(400)) => "nobody".to_owned(),
    };
    let tens = child::call(&ctx, 1).await.map_err(|e| duroxide::Error::new(e.to_string()))?;
    Ok(format!("{} {word} {tens}", copy.len()))
}

/// Returns the kind of a failure, in words that do not change with the library.
pub(super) fn kind_of(failure: &Failure) -> &'static str {
    match failure {
        Failure::Application => "application",
        Failure::Panicked { .. } => "panicked",
        Failure::TimedOut { .. } => "timed out",
        Failure::Cancelled { .. } => "cancelled",
        Failure::Terminated { .. } => "terminated",
        Failure::Rejected { .. } => "rejected",
        _ => "another",
    }
}
