//! The workloads. Each asks one question, and answers with a [`Report`].

mod idle;
mod many;
mod one;
mod recovery;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use duroxide::{Client, Runtime, RuntimeOptions};

use crate::measure::{Report, Run, Times};
use crate::setup::{Kind, Level, Store};

pub use recovery::start_and_wait_for_the_kill;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// n instances of one activity each.
    Hello,
    /// The same, one at a time.
    Latency,
    /// n instances of five activities in a row.
    Steps5,
    /// One instance of n activities in a row.
    Chain,
    /// One instance of n activities side by side.
    Fanout,
    /// n instances that sleep for a second; the times are how late they woke.
    Timers,
    /// n instances that wait, and one event for each.
    Events,
    /// One instance of n children.
    Children,
    /// n instances that carry a text through an activity and back.
    Payload,
    /// n instances that wait, and nothing happens for 20 seconds.
    Idle,
    /// An instance with n events is replayed.
    Replay,
    /// n instances in flight, the process is killed, and another takes over.
    Recovery,
}

/// How it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much.
    pub n: u64,
    /// How many instances at once.
    pub in_flight: usize,
    /// The length of texts in bytes.
    pub payload: usize,
    /// Where state is kept.
    pub kind: Kind,
    /// What an acknowledged write survives.
    pub level: Level,
    /// Where files go.
    pub folder: PathBuf,
    /// Told how much is done.
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
        let store = Store::open(options.kind, options.level, &options.folder)?;
        let runtime = store.runtime(RuntimeOptions::default()).await?;
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
    add_written(&bench, &mut report.extra);
    bench.runtime.shutdown().await?;
    Ok(report)
}

/// What this process has handed to the disk so far, as the system counts it.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn add_written(bench: &Bench, extra: &mut BTreeMap<String, f64>) {
    if bench.options.kind == Kind::Sqlite {
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let bytes = io.lines().find_map(|line| line.strip_prefix("wchar: ")).and_then(|n| n.parse::<u64>().ok());
        let per_one = bytes.unwrap_or_default() as f64 / bench.options.n.max(1) as f64;
        extra.insert("written_bytes_per_one".to_owned(), per_one);
    }
}

/// The pause of those who wait for a condition that has no signal.
const LOOK: Duration = Duration::from_millis(5);
