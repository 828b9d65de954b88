//! Measures time, latency, processor time, memory, and writes to the disk.
//!
//! The tool that measures other engines compiles this file, too, so that all are measured in the same way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The figures of one run.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Report {
    /// The name of the workload.
    pub workload: String,
    /// The provider.
    pub provider: String,
    /// The durability of an acknowledged write: `full` survives power loss, `relaxed` a crash of the process.
    pub durability: String,
    /// The amount of work.
    pub n: u64,
    /// The duration, in seconds.
    pub seconds: f64,
    /// `n / seconds`.
    pub per_second: f64,
    /// The median of the single times, in milliseconds; zero if there are none.
    pub p50_ms: f64,
    /// The 99th percentile of the single times, in milliseconds; zero if there are none.
    pub p99_ms: f64,
    /// The processor time of the whole process in that time, including threads that have ended.
    pub cpu_seconds: f64,
    /// The peak of resident memory.
    pub peak_rss_mib: f64,
    /// The number of write transactions; zero if the storage does not count them.
    pub write_transactions: u64,
    /// Further figures of the workload.
    #[serde(flatten)]
    pub extra: BTreeMap<String, f64>,
    /// The reason why there are no figures.
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
    /// Adds a time.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Returns a percentile, in milliseconds.
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
    /// Begins to measure. `write_transactions` is the storage's count so far.
    pub fn begin(writes: u64) -> Self {
        Self { begun: Instant::now(), cpu: cpu_seconds(), writes }
    }

    /// Returns the figures until now.
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

/// Returns the processor time of this process, including threads that have ended.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

/// Returns the resident memory, in MiB.
pub fn rss_mib() -> f64 {
    status_mib("VmRSS:")
}

fn status_mib(field: &str) -> f64 {
    proc_number("/proc/self/status", field) / 1024.0
}

/// The bytes that this process has written so far.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Bytes passed to the operating system: the writes of the database to its files, its log, and for checkpoints.
    pub handed: f64,
    /// Bytes that the operating system has to write to the disk: whole pages, once for each flush. These wear the disk,
    /// and are the cost of a small write; the file system's own journal comes on top.
    pub to_disk: f64,
}

impl Written {
    /// Returns the bytes until now; zero if the operating system does not count them.
    pub fn now() -> Self {
        let number = |field| proc_number("/proc/self/io", field);
        Self { handed: number("wchar:"), to_disk: number("write_bytes:") }
    }

    /// Adds the bytes written since `self`, divided by n, to the report.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn add_since(self, report: &mut Report) {
        let now = Self::now();
        let n = report.n.max(1) as f64;
        report.add("handed_bytes_per_one", (now.handed - self.handed) / n);
        report.add("written_bytes_per_one", (now.to_disk - self.to_disk) / n);
    }
}

/// Returns the number behind a field in a text of `/proc`; zero if there is none.
fn proc_number(file: &str, field: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or_default()
}
