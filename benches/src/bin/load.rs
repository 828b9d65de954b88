//! The load tool: runs one workload and prints its figures.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use duroxide_bench::measure::Report;
use duroxide_bench::server::Server;
use duroxide_bench::setup::{Kind, Level};
use duroxide_bench::workloads::{self, Options, Workload};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs one workload and prints its figures.
#[derive(Parser)]
struct Args {
    workload: Workload,
    /// The kind of the provider.
    #[arg(long, default_value = "sqlite")]
    provider: Kind,
    /// The event that an acknowledged write survives: `full` a loss of power, `relaxed` a crash of the process.
    #[arg(long, default_value = "full")]
    durability: Level,
    /// The number of units of work.
    #[arg(long, default_value_t = 1000)]
    n: u64,
    /// The number of instances at once.
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// The length of texts in bytes, for `payload`.
    #[arg(long, default_value_t = 64 * 1024)]
    payload: usize,
    /// The additional time of each write transaction, such as `2ms`: shows how many flushes a unit of work waits for.
    #[arg(long, default_value = "0s")]
    flush_delay: humantime::Duration,
    /// Prints one JSON object, and no progress bar. If the run fails, the reason is its field `error`.
    #[arg(long)]
    json: bool,
    /// The folder of all files. Default: a temporary folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The URL of a PostgreSQL server, whose schema `duroxide_load` is recreated. Default: a private server for this run, which
    /// flushes each commit.
    #[arg(long)]
    database: Option<String>,
    /// Works on the instances of `recovery` until killed.
    #[arg(long, hide = true)]
    victim: bool,
}

static BAR: OnceLock<ProgressBar> = OnceLock::new();

#[tokio::main]
async fn main() -> duroxide::Result<ExitCode> {
    let args = Args::parse();
    let temporary = tempfile::tempdir()?;
    let server = match (args.provider, args.victim) {
        (Kind::Postgres, false) => {
            Some(Server::new(args.database.clone(), args.durability, args.flush_delay.into()).await?)
        }
        _ => None,
    };
    let options = Options {
        n: args.n,
        in_flight: args.in_flight,
        payload: args.payload,
        kind: args.provider,
        level: args.durability,
        flush_delay: args.flush_delay.into(),
        folder: args.folder.clone().unwrap_or_else(|| temporary.path().to_owned()),
        database: server.as_ref().map(|server| server.url().to_owned()).or(args.database).unwrap_or_default(),
        progress: |n| {
            if let Some(bar) = BAR.get() {
                bar.inc(n);
            }
        },
    };
    if args.victim {
        return workloads::work_until_the_kill(options).await.map(|()| ExitCode::SUCCESS);
    }
    if !args.json {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec}")?;
        let _ = BAR.set(ProgressBar::new(args.n).with_style(style));
    }
    let mut report = match workloads::run(args.workload, options).await {
        Ok(report) => report,
        Err(error) if args.json => Report { n: args.n, error: Some(format!("{error:#}")), ..Report::default() },
        Err(error) => return Err(error),
    };
    report.workload = name(args.workload);
    report.provider = name(args.provider);
    report.durability = name(args.durability);
    if let Some(bar) = BAR.get() {
        bar.finish_and_clear();
        print_for_people(&report);
    } else {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(if report.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn name(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn print_for_people(report: &Report) {
    let Report { workload, provider, durability, n, seconds, per_second, p50_ms, p99_ms, .. } = report;
    println!("{workload} on {provider} ({durability}): {n} in {seconds:.3} s, {per_second:.0}/s");
    println!("single times: p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms");
    let Report { cpu_seconds, peak_rss_mib, write_transactions, extra, .. } = report;
    println!(
        "processor {cpu_seconds:.3} s, peak memory {peak_rss_mib:.1} MiB, write transactions {write_transactions}"
    );
    for (name, value) in extra {
        println!("{name}: {value:.3}");
    }
}
