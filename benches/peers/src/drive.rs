//! The workloads of the load tool, for any engine.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use clap::ValueEnum;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::engine::{Engine, Job, Level, Result};
use crate::ledger::Ledger;
use crate::measure::{Report, Run, Times, Written, cpu_seconds, rss_mib};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    Hello,
    Latency,
    Steps5,
    Chain,
    Fanout,
    Timers,
    Events,
    Children,
    Payload,
    Idle,
    Replay,
    Recovery,
    /// Floor: n commits of one small row, one after another.
    Commits,
    /// Floor: n appends of 1 MiB to a file, each flushed.
    Disk,
    /// Floor: n messages to a sleeping thread, and back.
    Threads,
}

pub(crate) struct Options {
    pub(crate) n: u64,
    pub(crate) in_flight: usize,
    pub(crate) payload: usize,
    pub(crate) level: Level,
    pub(crate) concurrency: Option<usize>,
    pub(crate) folder: PathBuf,
    pub(crate) database: Option<String>,
    pub(crate) engine: String,
}

struct Bench<E> {
    options: Options,
    engine: E,
}

const RECOVERY_STEPS: u64 = 5;
/// The interval at which conditions without a notification are polled.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) async fn run<E: Engine>(workload: Workload, options: Options) -> Result<Report> {
    if workload == Workload::Recovery {
        return recovery::<E>(options).await;
    }
    let bench = Bench::<E>::open(options).await?;
    let written = Written::now();
    let mut report = match workload {
        Workload::Hello => bench.many(async |_| Ok(Job::Steps(1))).await?,
        Workload::Latency => bench.latency().await?,
        Workload::Steps5 => bench.steps5().await?,
        Workload::Payload => bench.many(async |_| Ok(Job::Carry("x".repeat(bench.options.payload)))).await?,
        Workload::Chain => bench.one(Job::Steps(bench.options.n)).await?,
        Workload::Fanout => bench.one(Job::Fan(bench.options.n)).await?,
        Workload::Children => bench.one(Job::Family(bench.options.n)).await?,
        Workload::Timers => bench.timers().await?,
        Workload::Events => bench.events().await?,
        Workload::Idle => bench.idle().await?,
        Workload::Replay => return bench.replay().await,
        Workload::Recovery | Workload::Commits | Workload::Disk | Workload::Threads => {
            return Err("not a workload of an engine".into());
        }
    };
    bench.engine.shutdown().await?;
    written.add_since(&mut report);
    Ok(report)
}

impl<E: Engine> Bench<E> {
    async fn open(options: Options) -> Result<Self> {
        let ledger = Ledger::in_folder(&options.folder)?;
        ledger.open();
        let engine = E::open(&options.folder, options.database.as_deref(), options.level, options.concurrency, ledger).await?;
        Ok(Self { options, engine })
    }

    /// Runs n instances, `in_flight` at once.
    async fn many(&self, job: impl AsyncFn(u64) -> Result<Job>) -> Result<Report> {
        let run = Run::begin(0);
        let all = stream::iter(0..self.options.n).map(async |i| {
            let begun = Instant::now();
            let handle = self.engine.start(&id(i), job(i).await?).await?;
            self.engine.result(&handle).await?;
            Result::Ok(begun.elapsed())
        });
        let times: Vec<Duration> = all.buffer_unordered(self.options.in_flight).try_collect().await?;
        Ok(run.end(self.options.n, times.into_iter().collect(), 0))
    }

    async fn latency(&self) -> Result<Report> {
        let run = Run::begin(0);
        let mut times = Times::default();
        for i in 0..self.options.n {
            let begun = Instant::now();
            let handle = self.engine.start(&id(i), Job::Steps(1)).await?;
            self.engine.result(&handle).await?;
            times.push(begun.elapsed());
        }
        Ok(run.end(self.options.n, times, 0))
    }

    async fn steps5(&self) -> Result<Report> {
        let mut report = self.many(async |_| Ok(Job::Steps(5))).await?;
        report.add("steps_per_second", 5.0 * report.per_second);
        Ok(report)
    }

    async fn one(&self, job: Job) -> Result<Report> {
        let run = Run::begin(0);
        let handle = self.engine.start(&id(0), job).await?;
        self.engine.result(&handle).await?;
        Ok(run.end(self.options.n, Times::default(), 0))
    }

    /// Starts n instances, `in_flight` at once.
    async fn start_all(&self, job: impl Fn(u64) -> Job) -> Result<Vec<(u64, E::Handle)>> {
        let starts = stream::iter(0..self.options.n).map(async |i| Ok((i, self.engine.start(&id(i), job(i)).await?)));
        starts.buffer_unordered(self.options.in_flight).try_collect().await
    }

    async fn timers(&self) -> Result<Report> {
        let run = Run::begin(0);
        let handles = self.start_all(|_| Job::Nap(1000)).await?;
        let woken = stream::iter(handles).map(async |(i, handle)| {
            self.engine.result(&handle).await?;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
            Result::Ok((i, now))
        });
        let woken: Vec<(u64, Duration)> = woken.buffer_unordered(usize::MAX).try_collect().await?;
        let mut report = run.end(self.options.n, Times::default(), 0);
        let mut late = Times::default();
        for (i, now) in woken {
            late.push(now.saturating_sub(self.engine.due(&id(i)).await?));
        }
        (report.p50_ms, report.p99_ms) = (late.percentile_ms(0.5), late.percentile_ms(0.99));
        Ok(report)
    }

    async fn events(&self) -> Result<Report> {
        let handles = self.start_all(|_| Job::Waits).await?;
        for i in 0..self.options.n {
            while !self.engine.waits(&id(i)).await? {
                tokio::time::sleep(LOOK).await;
            }
        }
        let run = Run::begin(0);
        let done = stream::iter(handles).map(async |(i, handle)| {
            let begun = Instant::now();
            self.engine.raise(&id(i)).await?;
            self.engine.result(&handle).await?;
            Result::Ok(begun.elapsed())
        });
        let times: Vec<Duration> = done.buffer_unordered(self.options.in_flight).try_collect().await?;
        Ok(run.end(self.options.n, times.into_iter().collect(), 0))
    }

    async fn idle(&self) -> Result<Report> {
        let alone = rss_mib();
        let run = Run::begin(0);
        let handles = self.start_all(|_| Job::Waits).await?;
        let mut report = run.end(self.options.n, Times::default(), 0);
        // Let the started instances reach their waits.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let cpu = cpu_seconds();
        tokio::time::sleep(Duration::from_secs(20)).await;
        report.cpu_seconds = cpu_seconds() - cpu;
        report.add("rss_alone_mib", alone);
        report.add("rss_idle_mib", rss_mib());
        let mut wake_ups = Times::default();
        for (i, handle) in handles.iter().step_by(handles.len().div_ceil(200).max(1)) {
            let begun = Instant::now();
            self.engine.raise(&id(*i)).await?;
            self.engine.result(handle).await?;
            wake_ups.push(begun.elapsed());
        }
        (report.p50_ms, report.p99_ms) = (wake_ups.percentile_ms(0.5), wake_ups.percentile_ms(0.99));
        Ok(report)
    }

    async fn replay(self) -> Result<Report> {
        let activities = self.options.n / 2;
        self.engine.start(&id(0), Job::StepsThenEvent(activities)).await?;
        while self.engine.outcomes(&id(0)).await? < activities {
            tokio::time::sleep(LOOK).await;
        }
        let Self { options, engine } = self;
        engine.shutdown().await?;
        let bench = Self::open(options).await?;
        let run = Run::begin(0);
        let begun = Instant::now();
        bench.engine.raise(&id(0)).await?;
        let handle = bench.engine.handle(&id(0)).await?;
        bench.engine.result(&handle).await?;
        Ok(run.end(bench.options.n, Times::from_iter([begun.elapsed()]), 0))
    }
}

async fn recovery<E: Engine>(options: Options) -> Result<Report> {
    kill_a_process_half_way(&options)?;
    let before = Ledger::read(&options.folder)?.len();
    let run = Run::begin(0);
    let bench = Bench::<E>::open(options).await?;
    let mut lost = 0u32;
    for i in 0..bench.options.n {
        let handle = bench.engine.handle(&id(i)).await?;
        lost += u32::from(bench.engine.result(&handle).await.is_err());
    }
    let mut report = run.end(bench.options.n, Times::default(), 0);
    let done = Ledger::read(&bench.options.folder)?;
    report.add("steps_before_the_kill", before as f64);
    report.add("lost", f64::from(lost));
    report.add("effects_missing", (bench.options.n * RECOVERY_STEPS) as f64 - done.len() as f64);
    report.add("reruns", f64::from(done.values().map(|times| times - 1).sum::<u32>()));
    Ok(report)
}

fn kill_a_process_half_way(options: &Options) -> Result<()> {
    let n = options.n.to_string();
    let level = options.level.to_possible_value().map_or_else(String::new, |level| level.get_name().to_owned());
    let mut child = Command::new(std::env::current_exe()?)
        .args([&options.engine, "recovery", "--victim", "--n", &n, "--durability", &level, "--folder"])
        .arg(&options.folder)
        .stdout(Stdio::piped())
        .spawn()?;
    // Engines may print other lines.
    let half = |out| BufReader::new(out).lines().map_while(|line| line.ok()).any(|line| line == "half");
    let reported = child.stdout.take().is_some_and(half);
    child.kill()?;
    child.wait()?;
    if reported { Ok(()) } else { Err("the process to be killed ended before".into()) }
}

/// Runs in the process that is killed. No activity ends before all instances are started.
pub(crate) async fn work_until_the_kill<E: Engine>(options: Options) -> Result<Report> {
    let ledger = Ledger::in_folder(&options.folder)?;
    let engine = E::open(&options.folder, options.database.as_deref(), options.level, options.concurrency, ledger.clone()).await?;
    let bench = Bench { options, engine };
    let started = bench.start_all(|instance| Job::Notes { instance, steps: RECOVERY_STEPS }).await?;
    ledger.open();
    ledger.has(bench.options.n * RECOVERY_STEPS / 2).await;
    println!("half");
    std::io::stdout().flush()?;
    let never = std::future::pending().await;
    drop(started);
    never
}

fn id(i: u64) -> String {
    format!("bench-{i}")
}
