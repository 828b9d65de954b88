//! Runs the same workloads on this engine and on others, and the floor of bare disk and database, and prints the figures and
//! the targets.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use duroxide_bench::compare::{entry, figures::Figures, plan, run, tables};
use duroxide_bench::server::Server;
use duroxide_bench::setup::Level;

/// Compares Duroxide with other engines and with the disk; see `benches/compare`.
#[derive(Parser)]
struct Args {
    /// The program that runs the other engines.
    #[arg(long)]
    peer: PathBuf,
    /// Runs a subset, in one round.
    #[arg(long)]
    quick: bool,
    /// Runs only these workloads.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The number of rounds, whose medians are printed. Default: 3, or 1 if quick.
    #[arg(long)]
    rounds: Option<usize>,
    /// A command that runs each program, such as `taskset -c 0,1`.
    #[arg(long, default_value = "")]
    through: String,
    /// The greatest number of attempts of a run, if other programs take more than a tenth of the processors during it.
    #[arg(long, default_value_t = 2)]
    attempts: u32,
    /// Writes the tables into docs/performance.md, between its markers.
    #[arg(long)]
    write: bool,
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let args = Args::parse();
    let load = std::env::current_exe()?.with_file_name("load");
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 3 });
    let mut plan = plan::plan(args.quick, &args.only);
    let server = match plan.iter().any(|run| run.postgres) {
        true => Server::private(Level::Full, Duration::ZERO).await?,
        false => None,
    };
    if server.is_none() {
        plan.retain(|run| !run.postgres);
        eprintln!("without PostgreSQL: no server is installed, or no run needs one");
    }
    let through: Vec<_> = args.through.split_whitespace().map(str::to_owned).collect();
    let mut figures = Figures::default();
    for round in 0..rounds {
        for run in plan.iter().filter(|run| round == 0 || !run.once) {
            let program = if run.peer { &args.peer } else { &load };
            let begun = Instant::now();
            let databases = match (&server, run.postgres) {
                (Some(server), true) => server.databases(args.attempts).await?,
                _ => Vec::new(),
            };
            let mut databases = databases.into_iter();
            let arguments = || match databases.next() {
                Some(url) => format!("{} --database {url}", run.arguments),
                None => run.arguments.to_owned(),
            };
            let report = run::quietest(&through, program, arguments, args.attempts)?;
            eprintln!("round {} of {rounds}: {}, {:.1} s", round + 1, run.name, begun.elapsed().as_secs_f64());
            if let Some(error) = report.get("error") {
                eprintln!("  {error}");
            }
            figures.insert(run.name, report);
        }
    }
    if !args.quick && args.only.is_empty() {
        eprintln!("a new program that uses the library");
        figures.insert("entry", entry::measure()?);
    }
    let text = [
        tables::workloads(&figures),
        tables::slow_disk(&figures),
        tables::postgres(&figures),
        tables::targets(&figures),
    ]
    .join("\n");
    println!("{text}");
    if args.write {
        tables::write("docs/performance.md".as_ref(), &text, rounds)?;
    }
    Ok(())
}
