//! The cost of waiting instances.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::many::{id, start_all};
use super::{Bench, LOOK};
use crate::measure::{Report, Times, cpu_seconds, rss_mib};
use crate::orchestrations::{Go, WAITING, waits};

/// The time for which an idle runtime is measured.
const IDLE: Duration = Duration::from_secs(20);
/// The number of instances that are woken, one after another.
const WOKEN: u64 = 200;

/// Measures n waiting instances: `seconds` is the time until all of them wait, `cpu_seconds` the processor time of 20 idle
/// seconds, and the single times are those of waking one.
pub(super) async fn idle(bench: &Bench) -> duroxide::Result<Report> {
    let (n, alone) = (bench.options.n, rss_mib());
    let run = bench.begin();
    start_all(bench, async |i| Ok(waits::start(&bench.client, id("idle", i)).await?)).await?;
    while WAITING.load(Ordering::Relaxed) < n {
        tokio::time::sleep(LOOK).await;
    }
    let mut report = bench.end(&run, n, Times::default());
    // Let the last commits and checkpoints end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu, counts) = (cpu_seconds(), bench.store.counts());
    tokio::time::sleep(IDLE).await;
    report.cpu_seconds = cpu_seconds() - cpu;
    report.add("idle_acquires", count(bench.store.counts().acquires - counts.acquires));
    report.add("idle_write_transactions", count(bench.store.counts().write_transactions - counts.write_transactions));
    report.add("rss_alone_mib", alone);
    report.add("rss_idle_mib", rss_mib());
    let mut wake_ups = Times::default();
    for i in (0..n).step_by(usize::try_from(n.div_ceil(WOKEN))?.max(1)) {
        let handle = waits::handle(&bench.client, id("idle", i));
        let begun = Instant::now();
        handle.raise(Go { n: 1 }).await?;
        handle.result().await?;
        wake_ups.push(begun.elapsed());
    }
    (report.p50_ms, report.p99_ms) = (wake_ups.percentile_ms(0.5), wake_ups.percentile_ms(0.99));
    Ok(report)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn count(n: u64) -> f64 {
    n as f64
}
