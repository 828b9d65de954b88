//! What is measured: time, latency, processor time, memory.

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
    /// The median of the single times, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of the single times, in milliseconds.
    pub p99_ms: f64,
    /// Processor time of the whole process meanwhile.
    pub cpu_seconds: f64,
    /// The most memory that was resident.
    pub peak_rss_mib: f64,
    /// How many write transactions the storage made.
    pub write_transactions: u64,
    /// What the workload measures besides.
    #[serde(flatten)]
    pub extra: std::collections::BTreeMap<String, f64>,
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

impl Extend<Duration> for Times {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, times: T) {
        self.0.extend(times);
    }
}

/// A run that is being measured.
pub struct Run {
    begun: Instant,
    cpu: f64,
    writes: u64,
}

impl Run {
    /// Begins to measure.
    pub fn begin(writes: u64) -> Self {
        Self { begun: Instant::now(), cpu: cpu_seconds(), writes }
    }

    /// The figures until now.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn end(&self, n: u64, mut times: Times, writes: u64) -> Report {
        let seconds = self.begun.elapsed().as_secs_f64();
        Report {
            n,
            seconds,
            per_second: n as f64 / seconds,
            p50_ms: times.percentile_ms(0.5),
            p99_ms: times.percentile_ms(0.99),
            cpu_seconds: cpu_seconds() - self.cpu,
            peak_rss_mib: status_mib("VmHWM:"),
            write_transactions: writes - self.writes,
            ..Report::default()
        }
    }
}

/// Processor time of this process; zero where the system does not tell.
pub fn cpu_seconds() -> f64 {
    // Clock ticks of Linux are hundredths of a second on every platform that we measure on; schedstat is finer.
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos: u64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanos).as_secs_f64()
}

/// Memory that is resident now, in MiB.
pub fn rss_mib() -> f64 {
    status_mib("VmRSS:")
}

fn status_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or_default() / 1024.0
}
