//! The report: it reads all sources, waits for the editor, and begins again in the next week.

use std::time::Duration;

use duroxide::prelude::*;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::contracts::{Approval, fetch, tell};

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) week: u32,
    pub(crate) last_week: u32,
    pub(crate) day: Duration, // short in the example
}

#[orchestration]
pub(crate) async fn weekly_report(ctx: OrchestrationContext, plan: Plan) -> duroxide::Result<u32> {
    let parts = read_sources(&ctx, plan.week).await?;
    let verdict = verdict(&ctx, plan).await?;
    tell::call(&ctx, format!("report {}: {} parts, {verdict}", plan.week, parts.len())).await?;
    if plan.week == plan.last_week {
        return Ok(plan.week);
    }
    ctx.sleep(plan.day * 5).await;
    // Each week is an execution with a short history of its own.
    weekly_report::continue_as_new(&ctx, Plan { week: plan.week + 1, ..plan }).await
}

/// Reads 50 sources, eight at a time. A source that fails is tried again, as its contract says.
pub(crate) async fn read_sources(ctx: &OrchestrationContext, week: u32) -> duroxide::Result<Vec<String>> {
    let calls: Vec<_> = (1..=50).map(|source| fetch::call(ctx, week, source)).collect();
    Ok(stream::iter(calls).buffered(8).try_collect().await?)
}

/// Waits for the approval, at most two days, and reminds the editor twice a day.
pub(crate) async fn verdict(ctx: &OrchestrationContext, plan: Plan) -> duroxide::Result<String> {
    let mut deadline = ctx.sleep(plan.day * 2);
    loop {
        select! {
            approval = ctx.event::<Approval>() => return Ok(format!("approved by {}", approval.by)),
            () = &mut deadline => return Ok("not approved in time".to_owned()),
            () = ctx.sleep(plan.day / 2) => tell::call(ctx, format!("report {} waits for you", plan.week)).await?,
        }
    }
}
