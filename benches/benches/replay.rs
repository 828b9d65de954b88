//! The cost of replaying a history, per event, and whether an event costs more in a long history.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duroxide::history::HistoryEvent;
use duroxide::testing::check_history;
use duroxide::{Registry, Runtime};
use duroxide_bench::orchestrations::steps;

fn replay(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Runtime::new().expect("threads");
    let registry = Registry::discover();
    let mut group = criterion.benchmark_group("replay");
    for activities in [50, 500, 5000] {
        let history = tokio.block_on(history_of(activities)).expect("a history");
        group.throughput(Throughput::Elements(history.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(history.len()), &history, |bencher, history| {
            bencher.iter(|| check_history(&registry, history).expect("the code has not changed"));
        });
    }
}

/// Records the history of an instance that calls this number of activities, one after another.
async fn history_of(activities: u64) -> duroxide::Result<Vec<HistoryEvent>> {
    let runtime = Runtime::builder().in_memory().start().await?;
    let handle = steps::start(&runtime.client(), "recorded", activities).await?;
    handle.result().await?;
    let history = handle.history().await?;
    runtime.shutdown().await?;
    Ok(history)
}

criterion_group!(benches, replay);
criterion_main!(benches);
