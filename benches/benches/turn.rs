//! What does it cost to bring one event to an instance that waits for it: when its function is in memory, and when it
//! has to be replayed first? The first must not depend on the length of the history.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use duroxide::{Handle, Runtime, RuntimeOptions};
use duroxide_bench::orchestrations::{Go, HEARD, listens};

/// Instances that receive events in rotation. As only one may stay in memory, the others are evicted before their next
/// event.
const INSTANCES: usize = 16;

fn turn(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Runtime::new().expect("threads");
    let mut group = criterion.benchmark_group("turn");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for activities in [50, 500, 5000] {
        for (kind, in_memory) in [("live", INSTANCES), ("cold", 1)] {
            let listeners = tokio.block_on(Listeners::start(activities, in_memory)).expect("listeners");
            group.bench_function(BenchmarkId::new(kind, activities * 2), |bencher| {
                bencher.iter_custom(|turns| tokio.block_on(listeners.hear(turns)).expect("heard"));
            });
            tokio.block_on(listeners.runtime.shutdown()).expect("an orderly end");
        }
    }
}

struct Listeners {
    runtime: Runtime,
    handles: Vec<Handle<listens>>,
}

impl Listeners {
    async fn start(activities: u64, in_memory: usize) -> duroxide::Result<Self> {
        let options = RuntimeOptions::new().max_idle_instances(in_memory);
        let runtime = Runtime::builder().in_memory().options(options).start().await?;
        let mut handles = Vec::new();
        for i in 0..INSTANCES {
            handles.push(listens::start(&runtime.client(), format!("listener-{i}"), activities).await?);
        }
        let listeners = Self { runtime, handles };
        // All instances have reached their wait for the first event.
        listeners.hear(INSTANCES as u64).await?;
        Ok(listeners)
    }

    /// Sends n events, each after the previous one was received.
    async fn hear(&self, turns: u64) -> duroxide::Result<Duration> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mut heard = HEARD.subscribe();
        let begun = Instant::now();
        for handle in self.handles.iter().cycle().take(usize::try_from(turns)?) {
            let n = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            handle.raise(Go { n }).await?;
            heard.wait_for(|heard| *heard >= n).await?;
        }
        Ok(begun.elapsed())
    }
}

criterion_group!(benches, turn);
criterion_main!(benches);
