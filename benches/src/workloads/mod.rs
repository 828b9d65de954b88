//! The workloads. Each answers one question with a [`Report`].

mod commits;
mod idle;
mod many;
mod one;
mod recovery;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use duroxide::{Client, Runtime, RuntimeBuilder};

use crate::measure::{Report, Run, Times, Written};
use crate::server::{Expenses, connect};
use crate::setup::{Kind, Level, Store};

pub use recovery::work_until_the_kill;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// n instances of one activity each.
    Hello,
    /// n instances of one activity each, one at a time.
    Latency,
    /// n instances of one activity each, one at a time, started by a client that shares only the storage with the runtime, as
    /// one of another process. The single times are those from the last turn, whose commit they include, to the result.
    Elsewhere,
    /// n instances of five activities in a row.
    Steps5,
    /// One instance of n activities in a row.
    Chain,
    /// One instance of n activities side by side.
    Fanout,
    /// n instances that sleep for a second; the single times are their delays on waking.
    Timers,
    /// n instances that wait, and one event for each.
    Events,
    /// One instance of n children.
    Children,
    /// n instances that pass a text to an activity and back.
    Payload,
    /// n instances that wait, idle for 20 seconds.
    Idle,
    /// An instance with n events is replayed.
    Replay,
    /// n instances in flight whose process is killed; another process continues them.
    Recovery,
    /// n bare commits of one row each, one at a time on one connection, on PostgreSQL: the floor of the other workloads.
    Commits,
}

/// The options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The number of units of work.
    pub n: u64,
    /// The number of instances at once.
    pub in_flight: usize,
    /// The length of texts in bytes.
    pub payload: usize,
    /// The kind of the provider.
    pub kind: Kind,
    /// The event that an acknowledged write survives.
    pub level: Level,
    /// The additional time that each write transaction takes to become durable.
    pub flush_delay: Duration,
    /// The folder of all files.
    pub folder: PathBuf,
    /// The URL of the PostgreSQL server.
    pub database: String,
    /// Called with each finished amount of work.
    pub progress: fn(u64),
}

/// A runtime under load.
struct Bench {
    options: Options,
    store: Store,
    runtime: Runtime,
    client: Client,
}

impl Bench {
    async fn start(options: Options) -> duroxide::Result<Self> {
        Self::start_with(options, |builder| builder).await
    }

    async fn start_with(
        options: Options,
        change: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder,
    ) -> duroxide::Result<Self> {
        let store = Store::open(&options).await?;
        let runtime = change(store.builder()).start().await?;
        let client = runtime.client();
        Ok(Self { options, store, runtime, client })
    }

    /// Starts another runtime on the same store, without live copies.
    async fn restart(self) -> duroxide::Result<Self> {
        let Self { options, store, runtime, .. } = self;
        runtime.shutdown().await?;
        let runtime = store.builder().start().await?;
        let client = runtime.client();
        Ok(Self { options, store, runtime, client })
    }

    fn begin(&self) -> BenchRun {
        let counts = self.store.counts();
        BenchRun { run: Run::begin(counts.write_transactions), acquires: counts.acquires }
    }

    fn end(&self, begun: &BenchRun, n: u64, times: Times) -> Report {
        let counts = self.store.counts();
        let mut report = begun.run.end(n, times, counts.write_transactions);
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        report.add("acquires", (counts.acquires - begun.acquires) as f64);
        report
    }
}

/// A run on a provider whose requests for work are counted.
struct BenchRun {
    run: Run,
    acquires: u64,
}

/// Runs a workload.
pub async fn run(workload: Workload, options: Options) -> duroxide::Result<Report> {
    if workload == Workload::Recovery {
        return recovery::recovery(options).await;
    }
    if workload == Workload::Commits {
        return commits::commits(&options).await;
    }
    let server = match options.kind {
        Kind::Postgres => {
            let server = connect(&options.database).await?;
            let expenses = Expenses::now(&server).await?;
            Some((server, expenses))
        }
        Kind::Memory | Kind::Sqlite => None,
    };
    let bench = Bench::start(options).await?;
    let written = Written::now();
    let mut report = match workload {
        Workload::Hello => many::hello(&bench).await?,
        Workload::Latency => many::latency(&bench).await?,
        Workload::Elsewhere => many::elsewhere(&bench).await?,
        Workload::Steps5 => many::steps5(&bench).await?,
        Workload::Timers => many::timers(&bench).await?,
        Workload::Events => many::events(&bench).await?,
        Workload::Payload => many::payload(&bench).await?,
        Workload::Chain => one::chain(&bench).await?,
        Workload::Fanout => one::fanout(&bench).await?,
        Workload::Children => one::children(&bench).await?,
        Workload::Replay => return one::replay(bench).await,
        Workload::Idle => idle::idle(&bench).await?,
        Workload::Recovery | Workload::Commits => Report::default(),
    };
    if bench.options.kind == Kind::Sqlite {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        report.add("write_transactions_per_one", report.write_transactions as f64 / report.n.max(1) as f64);
    }
    let Bench { runtime, store, client, options } = bench;
    runtime.shutdown().await?;
    // Dropping the last handle of the database moves the log into it, and these writes count as well.
    drop((client, store));
    if options.kind == Kind::Sqlite {
        written.add_since(&mut report);
    }
    if let Some((server, expenses)) = server {
        expenses.add_since(&server, &mut report).await?;
    }
    Ok(report)
}

/// The interval at which conditions without a notification are polled.
const LOOK: Duration = Duration::from_millis(5);
