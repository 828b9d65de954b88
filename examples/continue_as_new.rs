//! An endless orchestration: it continues as new before its history grows long.

use std::time::Duration;

use duroxide::prelude::*;
use serde::{Deserialize, Serialize};

/// A reading of the meter. `Off` ends the day.
#[event]
enum Reading {
    Watts(u64),
    Off,
}

/// The state that one execution passes to the next.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sum {
    readings: u64,
    watts: u64,
}

#[activity]
async fn store(sum: Sum) -> duroxide::Result<()> {
    println!("  stored: {} readings, {} W", sum.readings, sum.watts);
    Ok(())
}

/// The history holds every event and every call, and is replayed after a crash. An orchestration that runs for years
/// would replay years; this one continues as new after three readings.
#[orchestration]
async fn meter(ctx: OrchestrationContext, mut sum: Sum) -> duroxide::Result<Sum> {
    tracing::info!("{} begins with {} readings", ctx.execution(), sum.readings);
    for _ in 0..3 {
        match ctx.event::<Reading>().await {
            Reading::Watts(watts) => sum = Sum { readings: sum.readings + 1, watts: sum.watts + watts },
            Reading::Off => return Ok(sum),
        }
    }
    store::call(&ctx, Sum { ..sum }).await?;
    // Ends this execution and begins the next one under the same id, with an empty history, in one step. Unread
    // readings pass to it: none is lost. The await never returns, so it can be the last expression.
    meter::continue_as_new(&ctx, sum).await
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("a meter sends ten readings, and is switched off");
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = Runtime::builder().in_memory().start().await?;
    let handle = meter::start(&runtime.client(), "meter-1", Sum::default()).await?;

    for watts in 1..=10 {
        handle.raise(Reading::Watts(watts * 10)).await?; // the sender does not depend on the execution
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    handle.raise(Reading::Off).await?;
    println!("the sum of the day: {:?}", handle.result().await?);

    let last = handle.status().await?.execution.number;
    for number in 1..=last {
        println!("  execution {number} has {} events", handle.history_of(number).await?.len());
    }
    runtime.shutdown().await?;
    Ok(())
}
