//! The cost of delivering one event to a waiting instance: with a live copy in memory, and with a replay first. With a live
//! copy, it must not depend on the length of the history.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use duroxide::{Handle, Runtime, RuntimeOptions};
use duroxide_bench::orchestrations::{Go, LAST_EVENT, awaits_events};

/// The number of instances that get events in turn. In the cold case only one of them stays in memory, so that each is evicted
/// before its next event.
const INSTANCES: usize = 16;

fn turn(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Runtime::new().expect("threads");
    let mut group = criterion.benchmark_group("turn");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for activities in [50, 500, 5000] {
        for (kind, in_memory) in [("live", INSTANCES), ("cold", 1)] {
            let instances = tokio.block_on(WaitingInstances::start(activities, in_memory)).expect("instances");
            group.bench_function(BenchmarkId::new(kind, activities * 2), |bencher| {
                bencher.iter_custom(|turns| tokio.block_on(instances.deliver(turns)).expect("a delivered event"));
            });
            tokio.block_on(instances.runtime.shutdown()).expect("an orderly end");
        }
    }
}

struct WaitingInstances {
    runtime: Runtime,
    handles: Vec<Handle<awaits_events>>,
}

impl WaitingInstances {
    async fn start(activities: u64, in_memory: usize) -> duroxide::Result<Self> {
        let options = RuntimeOptions::new().max_idle_instances(in_memory);
        let runtime = Runtime::builder().in_memory().options(options).start().await?;
        let mut handles = Vec::new();
        for i in 0..INSTANCES {
            handles.push(awaits_events::start(&runtime.client(), format!("waiting-{i}"), activities).await?);
        }
        let instances = Self { runtime, handles };
        // All instances have reached their first wait.
        instances.deliver(INSTANCES as u64).await?;
        Ok(instances)
    }

    /// Sends this number of events, each after the last one was received.
    async fn deliver(&self, turns: u64) -> duroxide::Result<Duration> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mut last = LAST_EVENT.subscribe();
        let begun = Instant::now();
        for handle in self.handles.iter().cycle().take(usize::try_from(turns)?) {
            let n = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            handle.raise(Go { n }).await?;
            last.wait_for(|last| *last >= n).await?;
        }
        Ok(begun.elapsed())
    }
}

criterion_group!(benches, turn);
criterion_main!(benches);
