//! One instance that does much.

use std::time::Instant;

use duroxide::RuntimeOptions;

use super::{Bench, LOOK};
use crate::measure::{Report, Times};
use crate::orchestrations::{Go, family, fan, remembers, steps};

pub(super) async fn chain(bench: &Bench) -> duroxide::Result<Report> {
    let run = bench.begin();
    steps::start(&bench.client, "chain", bench.options.n).await?.result().await?;
    Ok(bench.end(&run, bench.options.n, Times::default()))
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

/// An instance with n events is left alone, and another runtime has to replay it for one more event.
pub(super) async fn replay(bench: Bench) -> duroxide::Result<Report> {
    let activities = bench.options.n / 2;
    let handle = remembers::start(&bench.client, "replay", activities).await?;
    while handle.status().await?.events.0 < activities * 2 {
        tokio::time::sleep(LOOK).await;
    }
    let Bench { options, store, runtime, .. } = bench;
    runtime.shutdown().await?;
    let runtime = store.runtime(RuntimeOptions::default()).await?;
    let client = runtime.client();
    let bench = Bench { options, store, runtime, client };
    let handle = remembers::handle(&bench.client, "replay");
    let run = bench.begin();
    let begun = Instant::now();
    handle.raise(Go { n: 1 }).await?;
    handle.result().await?;
    let mut times = Times::default();
    times.push(begun.elapsed());
    let report = bench.end(&run, bench.options.n, times);
    bench.runtime.shutdown().await?;
    Ok(report)
}
