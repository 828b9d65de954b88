//! Workloads of one large instance.

use std::time::{Duration, Instant};

use duroxide::history::{EventKind, HistoryEvent, Input};

use super::{Bench, LOOK};
use crate::measure::{Report, Times};
use crate::orchestrations::{Go, family, fan, steps, steps_then_event};

/// The number of early and of late steps that are compared: enough for a median that no single slow flush moves.
const WINDOW: usize = 200;

/// Measures the single steps of a chain. The medians of the first and of the last steps show whether a step costs more behind
/// a long history.
pub(super) async fn chain(bench: &Bench) -> duroxide::Result<Report> {
    let run = bench.begin();
    let handle = steps::start(&bench.client, "chain", bench.options.n).await?;
    handle.result().await?;
    let mut report = bench.end(&run, bench.options.n, Times::default());
    let steps = step_times(&handle.history().await?);
    let mut all: Times = steps.iter().copied().collect();
    (report.p50_ms, report.p99_ms) = (all.percentile_ms(0.5), all.percentile_ms(0.99));
    let median_us = |some: &[Duration]| some.iter().copied().collect::<Times>().percentile_ms(0.5) * 1e3;
    let (early, late) = (steps.get(..WINDOW), steps.len().checked_sub(WINDOW).and_then(|from| steps.get(from..)));
    if let (Some(early), Some(late)) = (early, late) {
        report.add("step_early_us", median_us(early));
        report.add("step_late_us", median_us(late));
        report.add("step_late_to_early", median_us(late) / median_us(early));
    }
    Ok(report)
}

/// Returns the times between the records of consecutive outcomes.
fn step_times(history: &[HistoryEvent]) -> Vec<Duration> {
    let outcomes = history.iter().filter(|e| matches!(e.kind, EventKind::Input(Input::ActivityCompleted { .. })));
    let times: Vec<_> = outcomes.map(|event| event.time).collect();
    times.windows(2).map(|pair| pair[1].since(pair[0])).collect()
}

pub(super) async fn fanout(bench: &Bench) -> duroxide::Result<Report> {
    let run = bench.begin();
    fan::start(&bench.client, "fanout", bench.options.n).await?.result().await?;
    Ok(bench.end(&run, bench.options.n, Times::default()))
}

pub(super) async fn children(bench: &Bench) -> duroxide::Result<Report> {
    let run = bench.begin();
    family::start(&bench.client, "family", bench.options.n).await?.result().await?;
    Ok(bench.end(&run, bench.options.n, Times::default()))
}

/// Measures the replay of an instance with n events, which a new runtime has to load for one more event.
pub(super) async fn replay(bench: Bench) -> duroxide::Result<Report> {
    let activities = bench.options.n / 2;
    let handle = steps_then_event::start(&bench.client, "replay", activities).await?;
    while handle.status().await?.events.0 < activities * 2 {
        tokio::time::sleep(LOOK).await;
    }
    let bench = bench.restart().await?;
    let handle = steps_then_event::handle(&bench.client, "replay");
    let run = bench.begin();
    let begun = Instant::now();
    handle.raise(Go { n: 1 }).await?;
    handle.result().await?;
    let times = Times::from_iter([begun.elapsed()]);
    let report = bench.end(&run, bench.options.n, times);
    bench.runtime.shutdown().await?;
    Ok(report)
}
