//! What is measured: time, latency, processor time, memory, what goes to the disk.
//!
//! Also compiled into the tool that measures other engines, so that all are measured alike.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The figures of one run.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Report {
    /// What was run.
    pub workload: String,
    /// Where state was kept.
    pub provider: String,
    /// What an acknowledged write survives: `full` power loss, `relaxed` a crash of the process.
    pub durability: String,
    /// How much was done.
    pub n: u64,
    /// How long it took.
    pub seconds: f64,
    /// `n / seconds`.
    pub per_second: f64,
    /// The median of the single times, in milliseconds; zero where there are none.
    pub p50_ms: f64,
    /// The 99th percentile of the single times, in milliseconds; zero where there are none.
    pub p99_ms: f64,
    /// Processor time of the whole process meanwhile, threads that have ended included.
    pub cpu_seconds: f64,
    /// The most memory that was resident.
    pub peak_rss_mib: f64,
    /// How many write transactions the storage made; zero where it does not tell.
    pub write_transactions: u64,
    /// What the workload measures besides.
    #[serde(flatten)]
    pub extra: BTreeMap<String, f64>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    /// Adds a figure of the workload.
    pub fn add(&mut self, name: &str, value: f64) {
        self.extra.insert(name.to_owned(), value);
    }
}

/// Single times, from which percentiles are taken.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time below which this share of the times lies, in milliseconds.
    pub fn percentile_ms(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (last as f64 * share).round() as usize;
        self.0.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        Self(times.into_iter().collect())
    }
}

/// A run that is being measured.
pub struct Run {
    begun: Instant,
    cpu: f64,
    writes: u64,
}

impl Run {
    /// Begins to measure, when the storage has made so many write transactions.
    pub fn begin(writes: u64) -> Self {
        Self { begun: Instant::now(), cpu: cpu_seconds(), writes }
    }

    /// The figures until now.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn end(&self, n: u64, mut times: Times, writes: u64) -> Report {
        let seconds = self.begun.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds() - self.cpu;
        let per_one = BTreeMap::from([("cpu_us_per_one".to_owned(), cpu_seconds * 1e6 / n.max(1) as f64)]);
        Report {
            n,
            seconds,
            per_second: n as f64 / seconds,
            p50_ms: times.percentile_ms(0.5),
            p99_ms: times.percentile_ms(0.99),
            cpu_seconds,
            peak_rss_mib: status_mib("VmHWM:"),
            write_transactions: writes - self.writes,
            extra: per_one,
            ..Report::default()
        }
    }
}

/// Processor time of this process, threads that have ended included.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

/// Memory that is resident now, in MiB.
pub fn rss_mib() -> f64 {
    status_mib("VmRSS:")
}

fn status_mib(field: &str) -> f64 {
    proc_number("/proc/self/status", field) / 1024.0
}

/// What this process has written so far.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Bytes that were handed to the system: what the database wrote into its files, log and checkpoints.
    pub handed: f64,
    /// Bytes that the system has to bring to the disk for it: whole pages, each once per time that it was flushed. This is
    /// what a disk wears by, and what a small write costs on it; the file system's own journal comes on top.
    pub to_disk: f64,
}

impl Written {
    /// Until now; zero where the system does not tell.
    pub fn now() -> Self {
        let number = |field| proc_number("/proc/self/io", field);
        Self { handed: number("wchar:"), to_disk: number("write_bytes:") }
    }

    /// Adds what was written since then, for each of n.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn add_since(self, report: &mut Report) {
        let now = Self::now();
        let n = report.n.max(1) as f64;
        report.add("handed_bytes_per_one", (now.handed - self.handed) / n);
        report.add("written_bytes_per_one", (now.to_disk - self.to_disk) / n);
    }
}

/// The number behind a field in one of the system's texts; zero where there is none.
fn proc_number(file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or_default()
}
