//! The targets. Rates and times that depend on the disk are compared with bare commits on the same disk in the same run.

use super::figures::Figures;

/// A target.
pub struct Target {
    /// The title of the measured figure.
    pub title: &'static str,
    /// The bound that the figure has to meet.
    pub bound: Bound,
    /// The unit of the figure and of the bound.
    pub unit: &'static str,
    /// Returns the figure; `None` if its workload was not run.
    pub measure: fn(&Figures) -> Option<f64>,
}

/// The bound of a target.
pub enum Bound {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

const fn target(title: &'static str, bound: Bound, unit: &'static str, measure: fn(&Figures) -> Option<f64>) -> Target {
    Target { title, bound, unit, measure }
}

fn ratio(figures: &Figures, (a, a_field): (&str, &str), (b, b_field): (&str, &str)) -> Option<f64> {
    Some(figures.get(a, a_field)? / figures.get(b, b_field)?)
}

/// Bare commits, each run directly after the workload that is compared with them, since the speed of the disk varies.
const COMMIT_RATE: (&str, &str) = ("commits", "per_second");
const COMMIT_RATE_AT_CHAIN: (&str, &str) = ("commits chain", "per_second");
const COMMIT_TIME_AT_LATENCY: (&str, &str) = ("commits latency", "p50_ms");

/// All targets.
pub const TARGETS: &[Target] = &[
    target("hello, against duroxide 0.1.32", AtLeast(30.0), "times", |f| {
        ratio(f, ("hello", "per_second"), ("hello published default", "per_second"))
    }),
    target("hello, against bare commits", AtLeast(1.0), "per commit", |f| {
        ratio(f, ("hello", "per_second"), COMMIT_RATE)
    }),
    target("latency, median", AtMost(4.0), "bare commits", |f| ratio(f, ("latency", "p50_ms"), COMMIT_TIME_AT_LATENCY)),
    target("latency, median", AtMost(1.0), "ms", |f| f.get("latency", "p50_ms")),
    target("latency, write transactions", AtMost(3.0), "each", |f| f.get("latency", "write_transactions_per_one")),
    target("steps of a chain", AtLeast(0.6), "per bare commit", |f| {
        ratio(f, ("chain", "per_second"), COMMIT_RATE_AT_CHAIN)
    }),
    target("step 10,000 against step 100", AtMost(1.2), "times", |f| f.get("chain10000", "step_late_to_early")),
    target("steps5", AtLeast(15_000.0), "steps/s", |f| f.get("steps5", "steps_per_second")),
    target("fan-out of 500", AtMost(0.08), "s", |f| f.get("fanout500", "seconds")),
    target("fan-out of 10,000", AtMost(1.5), "s", |f| f.get("fanout10000", "seconds")),
    target("fan-out, one of 10,000 against one of 500", AtMost(1.2), "times", |f| {
        Some(ratio(f, ("fanout10000", "seconds"), ("fanout500", "seconds"))? / 20.0)
    }),
    target("2,000 timers, p99 of the delay", AtMost(25.0), "ms", |f| f.get("timers", "p99_ms")),
    target("events", AtLeast(8_000.0), "/s", |f| f.get("events", "per_second")),
    target("10,000 waiting, processor time in 20 s", AtMost(20.0), "ms", |f| Some(f.get("idle", "cpu_seconds")? * 1e3)),
    target("runtime alone, resident", AtMost(20.0), "MiB", |f| f.get("idle", "rss_alone_mib")),
    target("10,000 waiting, resident", AtMost(40.0), "MiB", |f| f.get("idle", "rss_idle_mib")),
    target("100,000 waiting, resident", AtMost(64.0), "MiB", |f| f.get("idle100000", "rss_idle_mib")),
    target("10,000 waiting, set up", AtMost(3.0), "s", |f| f.get("idle", "seconds")),
    target("waking one of 10,000, median", AtMost(5.0), "ms", |f| f.get("idle", "p50_ms")),
    target("payloads of 64 KiB", AtLeast(1_000.0), "/s", |f| f.get("payload", "per_second")),
    target("payloads, bytes to disk", AtLeast(0.5), "of the disk's rate", |f| {
        let bytes = f.get("payload", "per_second")? * f.get("payload", "written_bytes_per_one")?;
        Some(bytes / (f.get("disk", "mib_per_second")? * 1024.0 * 1024.0))
    }),
    target("recovery of 1,000, from the restart", AtMost(1.0), "s", |f| f.get("recovery", "seconds")),
    target("recovery, lost or duplicated", AtMost(0.0), "instances", |f| {
        let lost = f.get("recovery", "lost")? + f.get("recovery", "effects_missing")?;
        Some(lost + f.get("recovery", "duplicated")?)
    }),
    target("recovery, activities that ran again", AtMost(1.0), "per worker slot", |f| {
        ratio(f, ("recovery", "reruns"), ("recovery", "worker_slots"))
    }),
    target("replay of 10,000 events", AtMost(20.0), "ms", |f| f.get("replay", "p50_ms")),
    target("written to disk, hello", AtMost(15_000.0), "B", |f| f.get("hello", "written_bytes_per_one")),
    target("written to disk, 64 KiB payload", AtMost(200_000.0), "B", |f| f.get("payload", "written_bytes_per_one")),
    target("hello in memory", AtLeast(60_000.0), "/s", |f| f.get("memory", "per_second")),
    target("flushes of 2 ms, latency", AtMost(3.5), "flushes", |f| flushes(f, "latency")),
    target("flushes of 2 ms, step of a chain", AtMost(1.5), "flushes", |f| flushes(f, "chain")),
    target("PostgreSQL, hello", AtLeast(6_000.0), "/s", |f| f.get("hello pg", "per_second")),
    target("PostgreSQL, steps5", AtLeast(10_000.0), "steps/s", |f| f.get("steps5 pg", "steps_per_second")),
    target("PostgreSQL, latency, median", AtMost(4.0), "bare commits", |f| {
        ratio(f, ("latency pg", "p50_ms"), ("commits pg", "p50_ms"))
    }),
    target("PostgreSQL, steps of a chain", AtLeast(0.6), "per bare commit", |f| {
        ratio(f, ("chain pg", "per_second"), ("commits pg", "per_second"))
    }),
    target("PostgreSQL, server's processor time, hello", AtMost(90.0), "us", |f| {
        f.get("hello pg", "server_cpu_us_per_one")
    }),
    target("PostgreSQL, server's log, hello", AtMost(3_000.0), "B", |f| f.get("hello pg", "wal_bytes_per_one")),
    target("PostgreSQL, server's processor time, further step", AtMost(35.0), "us", |f| {
        further_step(f, "server_cpu_us_per_one")
    }),
    target("PostgreSQL, server's log, further step", AtMost(1_200.0), "B", |f| further_step(f, "wal_bytes_per_one")),
    target("PostgreSQL, 2,000 timers, p99 of the delay", AtMost(30.0), "ms", |f| f.get("timers pg", "p99_ms")),
    target("PostgreSQL, 2,000 timers, requests for work", AtMost(0.0), "", |f| f.get("timers pg", "acquires")),
    target("PostgreSQL, result in another process, median after the last turn", AtMost(3.0), "ms", |f| {
        f.get("elsewhere pg", "p50_ms")
    }),
    target("PostgreSQL, recovery, lost or duplicated", AtMost(0.0), "instances", |f| {
        Some(
            f.get("recovery pg", "lost")?
                + f.get("recovery pg", "effects_missing")?
                + f.get("recovery pg", "duplicated")?,
        )
    }),
    target("hello world, crates", AtMost(99.0), "", |f| f.get("entry", "crates")),
    target("hello world, clean debug build", AtMost(45.0), "s", |f| f.get("entry", "debug_build_seconds")),
    target("hello world, stripped release binary", AtMost(5.0), "MB", |f| Some(f.get("entry", "binary_bytes")? / 1e6)),
    target("hello world, first line in debug", AtMost(20.0), "ms", |f| f.get("entry", "first_line_ms")),
];

/// Returns the number of delayed flushes that one unit waits for: its additional time with the delay, divided by the delay.
fn flushes(figures: &Figures, name: &str) -> Option<f64> {
    const DELAY_MS: f64 = 2.0;
    Some((figures.get(&format!("{name} slow"), "p50_ms")? - figures.get(name, "p50_ms")?) / DELAY_MS)
}

/// Returns the expense of each of the four steps that `steps5` has more than `hello`.
fn further_step(figures: &Figures, field: &str) -> Option<f64> {
    Some((figures.get("steps5 pg", field)? - figures.get("hello pg", field)?) / 4.0)
}
