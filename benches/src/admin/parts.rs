//! The times of the parts of one instance, of its family and of the audit.

use std::time::Instant;

use duroxide::Client;
use duroxide::client::TreeLimits;
use duroxide::id::InstanceId;
use duroxide::provider::{Admin, AuditQuery, HistoryQuery, Page};

use super::database::FAMILY;
use super::queries::{Measured, RUNS};
use crate::measure::Times;

pub(super) async fn parts(admin: &dyn Admin, client: &Client) -> duroxide::Result<Vec<Measured>> {
    let id = InstanceId::new(FAMILY)?;
    let execution = client.handle(FAMILY).status().await?.execution;
    let audit = async || Ok(admin.audit(&AuditQuery::default(), &Page::new(50)).await?.entries.len());
    let last = HistoryQuery::last(50);
    let limits = TreeLimits { width: 100, ..TreeLimits::default() };
    Ok(vec![
        measured("activities of an instance", 1.0, async || {
            Ok(admin.activities(&id).await?.map_or(0, |found| found.open.len()))
        })
        .await?,
        measured("messages of an instance", 1.0, async || {
            Ok(admin.messages(&id).await?.map_or(0, |found| found.messages.len()))
        })
        .await?,
        measured("rows of an instance", 1.0, async || Ok(usize::from(admin.rows(&id).await?.is_some()))).await?,
        measured("the last 50 of 1,000 events", 1.0, async || Ok(admin.events(&execution, &last).await?.events.len()))
            .await?,
        measured("tree of 100 instances", 10.0, async || Ok(1 + client.tree(FAMILY, limits).await?.children.len()))
            .await?,
        measured("audit, newest", 1.0, audit).await?,
    ])
}

async fn measured(
    question: &'static str,
    target_ms: f64,
    read: impl AsyncFn() -> duroxide::Result<usize>,
) -> duroxide::Result<Measured> {
    let (mut times, mut found) = (Times::default(), 0);
    for _ in 0..RUNS {
        let begun = Instant::now();
        found = read().await?;
        times.push(begun.elapsed());
    }
    Ok(Measured { question, ms: times.percentile_ms(0.5), target_ms, found, searched: 0 })
}
