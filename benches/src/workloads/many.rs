//! Workloads of many instances, `in_flight` of them at once.

use std::time::{Duration, Instant, SystemTime};

use duroxide::{Client, Handle, Orchestration, Timestamp};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Bench;
use crate::measure::{Report, Times};
use crate::orchestrations::{self, Go, carry, nap, steps, waits};
use crate::setup::{Kind, Store};

pub(super) async fn hello(bench: &Bench) -> duroxide::Result<Report> {
    many(bench, async |i| Ok(_ = orchestrations::hello::start(&bench.client, id("hello", i), i).await?.result().await?))
        .await
}

pub(super) async fn latency(bench: &Bench) -> duroxide::Result<Report> {
    let run = bench.begin();
    let mut times = Times::default();
    for i in 0..bench.options.n {
        let begun = Instant::now();
        orchestrations::hello::start(&bench.client, id("latency", i), i).await?.result().await?;
        times.push(begun.elapsed());
        (bench.options.progress)(1);
    }
    Ok(bench.end(&run, bench.options.n, times))
}

pub(super) async fn elsewhere(bench: &Bench) -> duroxide::Result<Report> {
    if bench.options.kind == Kind::Memory {
        return Err(duroxide::Error::new("a storage in memory belongs to one process"));
    }
    let elsewhere = Client::shared(Store::open(&bench.options).await?.provider());
    let run = bench.begin();
    let (mut times, mut whole) = (Times::default(), Times::default());
    for i in 0..bench.options.n {
        let begun = Instant::now();
        let handle = orchestrations::hello::start(&elsewhere, id("elsewhere", i), i).await?;
        handle.result().await?;
        let seen = Timestamp::from(SystemTime::now());
        whole.push(begun.elapsed());
        times.push(seen.since(handle.status().await?.updated_at));
        (bench.options.progress)(1);
    }
    let mut report = bench.end(&run, bench.options.n, times);
    report.add("whole_p50_ms", whole.percentile_ms(0.5));
    Ok(report)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) async fn steps5(bench: &Bench) -> duroxide::Result<Report> {
    let report = many(bench, async |i| Ok(_ = steps::start(&bench.client, id("steps", i), 5).await?.result().await?));
    let mut report = report.await?;
    let steps = 5.0 * bench.options.n as f64;
    report.add("steps_per_second", steps / report.seconds);
    Ok(report)
}

pub(super) async fn payload(bench: &Bench) -> duroxide::Result<Report> {
    let text = "x".repeat(bench.options.payload);
    many(bench, async |i| Ok(_ = carry::start(&bench.client, id("payload", i), text.clone()).await?.result().await?))
        .await
}

pub(super) async fn timers(bench: &Bench) -> duroxide::Result<Report> {
    let run = bench.begin();
    let handles = handles(bench, async |i| Ok(nap::start(&bench.client, id("timer", i), 1000).await?)).await?;
    let late = stream::iter(handles).map(async |handle: Handle<nap>| {
        let due = Timestamp::from_micros(handle.result().await?);
        duroxide::Result::<_>::Ok(Timestamp::from(SystemTime::now()).since(due))
    });
    let late: Vec<Duration> = late.buffer_unordered(usize::MAX).try_collect().await?;
    Ok(bench.end(&run, bench.options.n, late.into_iter().collect()))
}

pub(super) async fn events(bench: &Bench) -> duroxide::Result<Report> {
    let handles = handles(bench, async |i| Ok(waits::start(&bench.client, id("event", i)).await?)).await?;
    let run = bench.begin();
    let done = stream::iter(handles).map(async |handle: Handle<waits>| {
        let begun = Instant::now();
        handle.raise(Go { n: 1 }).await?;
        handle.result().await?;
        (bench.options.progress)(1);
        duroxide::Result::<_>::Ok(begun.elapsed())
    });
    let times: Vec<Duration> = done.buffer_unordered(bench.options.in_flight).try_collect().await?;
    Ok(bench.end(&run, bench.options.n, times.into_iter().collect()))
}

/// Starts n instances, `in_flight` at once, and drops their handles, whose memory is not to be measured.
pub(super) async fn start_all<O: Orchestration>(
    bench: &Bench,
    start: impl AsyncFn(u64) -> duroxide::Result<Handle<O>>,
) -> duroxide::Result<()> {
    let starts = stream::iter(0..bench.options.n).map(async |i| start(i).await.map(drop));
    starts.buffer_unordered(bench.options.in_flight).try_collect().await
}

/// Starts n instances, `in_flight` at once.
async fn handles<O: Orchestration>(
    bench: &Bench,
    start: impl AsyncFn(u64) -> duroxide::Result<Handle<O>>,
) -> duroxide::Result<Vec<Handle<O>>> {
    let starts = stream::iter(0..bench.options.n).map(async |i| start(i).await);
    starts.buffer_unordered(bench.options.in_flight).try_collect().await
}

/// Runs `one` n times, `in_flight` at once.
async fn many(bench: &Bench, one: impl AsyncFn(u64) -> duroxide::Result<()>) -> duroxide::Result<Report> {
    let run = bench.begin();
    let all = stream::iter(0..bench.options.n).map(async |i| {
        let begun = Instant::now();
        one(i).await?;
        (bench.options.progress)(1);
        duroxide::Result::<_>::Ok(begun.elapsed())
    });
    let times: Vec<Duration> = all.buffer_unordered(bench.options.in_flight).try_collect().await?;
    Ok(bench.end(&run, bench.options.n, times.into_iter().collect()))
}

pub(super) fn id(kind: &str, i: u64) -> String {
    format!("{kind}-{i}")
}
