//! The workloads. Each answers one question with a [`Report`].

mod idle;
mod many;
mod one;
mod recovery;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use duroxide::{Client, Runtime, RuntimeBuilder};

use crate::measure::{Report, Run, Times, Written};
use crate::setup::{Kind, Level, Store};

pub use recovery::work_until_the_kill;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// n instances of one activity each.
    Hello,
    /// n instances of one activity each, one at a time.
    Latency,
    /// n instances of five activities in a row.
    Steps5,
    /// One instance of n activities in a row.
    Chain,
    /// One instance of n concurrent activities.
    Fanout,
    /// n instances that sleep for a second; the single times are their delays.
    Timers,
    /// n instances that wait, and one event for each.
    Events,
    /// One instance of n children.
    Children,
    /// n instances that carry a text through an activity and back.
    Payload,
    /// n instances that wait, idle for 20 seconds.
    Idle,
    /// An instance with n events is replayed.
    Replay,
    /// n instances in flight; the process is killed, and another one recovers them.
    Recovery,
}

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The amount of work.
    pub n: u64,
    /// The number of concurrent instances.
    pub in_flight: usize,
    /// The length of texts in bytes.
    pub payload: usize,
    /// The provider.
    pub kind: Kind,
    /// The durability of an acknowledged write.
    pub level: Level,
    /// The delay of each write transaction.
    pub flush_delay: Duration,
    /// The folder of the files.
    pub folder: PathBuf,
    /// Receives the progress.
    pub progress: fn(u64),
}

/// A runtime that is under load.
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
        let store = Store::open(options.kind, options.level, options.flush_delay, &options.folder)?;
        let runtime = change(store.builder()).start().await?;
        let client = runtime.client();
        Ok(Self { options, store, runtime, client })
    }

    /// Starts another runtime on the same store, without the live copies of this one.
    async fn restart(self) -> duroxide::Result<Self> {
        let Self { options, store, runtime, .. } = self;
        runtime.shutdown().await?;
        let runtime = store.builder().start().await?;
        let client = runtime.client();
        Ok(Self { options, store, runtime, client })
    }

    fn begin(&self) -> Run {
        Run::begin(self.store.write_transactions())
    }

    fn end(&self, run: &Run, n: u64, times: Times) -> Report {
        run.end(n, times, self.store.write_transactions())
    }
}

/// Runs a workload.
pub async fn run(workload: Workload, options: Options) -> duroxide::Result<Report> {
    if workload == Workload::Recovery {
        return recovery::recovery(options).await;
    }
    let bench = Bench::start(options).await?;
    let written = Written::now();
    let mut report = match workload {
        Workload::Hello => many::hello(&bench).await?,
        Workload::Latency => many::latency(&bench).await?,
        Workload::Steps5 => many::steps5(&bench).await?,
        Workload::Timers => many::timers(&bench).await?,
        Workload::Events => many::events(&bench).await?,
        Workload::Payload => many::payload(&bench).await?,
        Workload::Chain => one::chain(&bench).await?,
        Workload::Fanout => one::fanout(&bench).await?,
        Workload::Children => one::children(&bench).await?,
        Workload::Replay => return one::replay(bench).await,
        Workload::Idle => idle::idle(&bench).await?,
        Workload::Recovery => Report::default(),
    };
    if bench.options.kind != Kind::Memory {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        report.add("write_transactions_per_one", report.write_transactions as f64 / report.n.max(1) as f64);
    }
    let Bench { runtime, store, client, options } = bench;
    runtime.shutdown().await?;
    // Closing the last connection moves the rest of the log into the database; these writes count, too.
    drop((client, store));
    if options.kind != Kind::Memory {
        written.add_since(&mut report);
    }
    Ok(report)
}

/// The interval for polling a condition that has no signal.
const LOOK: Duration = Duration::from_millis(5);
