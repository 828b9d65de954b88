//! The cost of writing one entry durably: alone, and as one of many that share a transaction and a flush.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duroxide::clock::{Clock, SystemClock};
use duroxide::history::Input;
use duroxide::provider::Message;
use duroxide::provider::{MessageRow, Provider, SendRequest, Submission};
use duroxide::sqlite::SqliteProvider;
use duroxide::{Client, InstanceId, Payload};

fn commit(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Runtime::new().expect("threads");
    let folder = tempfile::tempdir().expect("a folder");
    let provider = SqliteProvider::open(folder.path().join("commit.db")).expect("a database");
    let target = InstanceId::new("target").expect("a valid id");
    // No node runs this instance, so that messages to it are only stored.
    let client = Client::new(provider.clone());
    tokio.block_on(async { client.start("unregistered", &target, &()).await }).expect("an instance");
    let mut group = criterion.benchmark_group("commit");
    for size in [1, 16, 256] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let entries = || (0..size).map(|_| event(&target)).collect::<Vec<_>>();
            let write = |entries| tokio.block_on(provider.submit(entries)).expect("a working provider");
            bencher.iter_batched(entries, write, BatchSize::SmallInput);
        });
    }
}

fn event(to: &InstanceId) -> Submission {
    let message = Message::new(Input::raised("go"), Payload::NULL);
    Submission::Send(SendRequest {
        to: to.clone(),
        message: MessageRow::from(&message),
        lease: None,
        time: SystemClock.now(),
        resent: false,
    })
}

criterion_group!(benches, commit);
criterion_main!(benches);
