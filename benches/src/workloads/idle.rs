//! What waiting costs.

use std::time::{Duration, Instant};

use super::Bench;
use super::many::{id, start_all};
use crate::measure::{Report, Times, cpu_seconds, rss_mib};
use crate::orchestrations::{Go, waits};

pub(super) async fn idle(bench: &Bench) -> duroxide::Result<Report> {
    let alone = rss_mib();
    let begun = Instant::now();
    let handles = start_all(bench, async |i| Ok(waits::start(&bench.client, id("idle", i)).await?)).await?;
    let set_up = begun.elapsed();
    // Let the last turns and checkpoints come to their end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu, run) = (cpu_seconds(), bench.begin());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let cpu = cpu_seconds() - cpu;
    let resident = rss_mib();
    let mut wake_ups = Times::default();
    for handle in handles.iter().step_by(handles.len().div_ceil(200).max(1)) {
        let begun = Instant::now();
        handle.raise(Go { n: 1 }).await?;
        handle.result().await?;
        wake_ups.push(begun.elapsed());
    }
    let mut report = bench.end(&run, bench.options.n, wake_ups);
    report.cpu_seconds = cpu;
    report.extra.insert("set_up_seconds".to_owned(), set_up.as_secs_f64());
    report.extra.insert("rss_alone_mib".to_owned(), alone);
    report.extra.insert("rss_idle_mib".to_owned(), resident);
    Ok(report)
}
