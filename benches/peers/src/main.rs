//! Runs the workloads of the load tool on other engines, and prints the same figures. Also runs the floor: the bare disk, and
//! a bare database on it.

// The code that measures and that counts effects is shared with the load tool.
#[path = "../../src/ledger.rs"]
mod ledger;
#[path = "../../src/measure.rs"]
mod measure;

mod drive;
mod durare;
mod engine;
mod floor;
mod published;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use drive::{Options, Workload};
use engine::{Engine, Level, Result};
use measure::Report;

/// Runs one workload on one engine.
#[derive(Parser)]
struct Args {
    engine: Which,
    workload: Workload,
    /// The event that an acknowledged write survives: `full` a loss of power, `default` the default of the engine.
    #[arg(long, default_value = "default")]
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
    /// The number of turns, and of activities, that `published` runs at once. Default: its own.
    #[arg(long)]
    concurrency: Option<usize>,
    /// Prints one JSON object. If the run fails, the reason is its field `error`.
    #[arg(long)]
    json: bool,
    /// The folder of all files. Default: a temporary folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The URL of an empty PostgreSQL database, to be used instead of a SQLite file.
    #[arg(long)]
    database: Option<String>,
    /// The limit of the run, in seconds.
    #[arg(long, default_value_t = 120)]
    limit: u64,
    /// Works on the instances of `recovery` until killed.
    #[arg(long, hide = true)]
    victim: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// The crate `duroxide` 0.1.32.
    Published,
    /// The crate `durare` 0.5.0.
    Durare,
    /// No engine: `commits`, `disk` and `threads`.
    Floor,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let limit = Duration::from_secs(args.limit);
    let report = match tokio::time::timeout(limit, run(&args)).await {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => failed(&args, error.to_string()),
        Err(_) => failed(&args, format!("not finished within {} s", args.limit)),
    };
    let report = Report {
        workload: name(args.workload),
        provider: name(args.engine),
        durability: name(args.durability),
        ..report
    };
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        println!("{report:#?}");
    }
    // Exit at once: threads of a run that exceeded the limit may still be busy.
    std::process::exit(i32::from(report.error.is_some()))
}

async fn run(args: &Args) -> Result<Report> {
    let temporary = tempfile::tempdir()?;
    let options = Options {
        n: args.n,
        in_flight: args.in_flight,
        payload: args.payload,
        level: args.durability,
        concurrency: args.concurrency,
        folder: args.folder.clone().unwrap_or_else(|| temporary.path().to_owned()),
        database: args.database.clone(),
        engine: name(args.engine),
    };
    match args.engine {
        Which::Published => on::<published::Published>(args, options).await,
        Which::Durare => on::<durare::Durare>(args, options).await,
        Which::Floor => floor::run(args.workload, &options),
    }
}

async fn on<E: Engine>(args: &Args, options: Options) -> Result<Report> {
    if args.victim {
        drive::work_until_the_kill::<E>(options).await
    } else {
        drive::run::<E>(args.workload, options).await
    }
}

fn failed(args: &Args, error: String) -> Report {
    Report { n: args.n, error: Some(error), ..Report::default() }
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
