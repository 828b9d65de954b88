//! Measures lists in a large database, and work beside lists.

use std::path::PathBuf;

use clap::Parser;
use duroxide::Client;
use duroxide::sqlite::SqliteProvider;
use duroxide_bench::admin;

/// Builds a large database and measures lists of it, and work beside lists.
#[derive(Parser)]
struct Args {
    /// The number of instances, at least 10,000.
    #[arg(long, default_value_t = 1_000_000)]
    instances: u64,
    /// The number of rounds of work, each without and with lists.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The number of instances in a round of work.
    #[arg(long, default_value_t = 40_000)]
    n: u64,
    /// The path of the database; an existing one is used. Default: in a temporary folder.
    #[arg(long)]
    database: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let args = Args::parse();
    let temporary = tempfile::tempdir()?;
    let path = args.database.unwrap_or_else(|| temporary.path().join("large.db"));
    if !path.exists() {
        admin::build(&path, args.instances)?;
    }
    println!("{:>10} {:>10} {:>6} {:>9}  list of 50", "ms", "target", "found", "searched");
    let provider = SqliteProvider::open(&path)?;
    for one in admin::queries(&provider, &Client::new(provider.clone())).await? {
        let missed = if one.ms > one.target_ms { "  MISSED" } else { "" };
        let admin::Measured { question, ms, target_ms, found, searched } = one;
        println!("{ms:>10.3} {target_ms:>10.2} {found:>6} {searched:>9}  {question}{missed}");
    }
    drop(provider);
    println!("\n{:>10} {:>10} {:>10} {:>6}  work", "p50 ms", "p99 ms", "hello/s", "lists");
    for round in admin::beside(&path, args.rounds, args.n).await? {
        let admin::Beside { with_lists, p50_ms, p99_ms, hello_per_second, lists } = round;
        let beside = if with_lists { "beside lists" } else { "alone" };
        println!("{p50_ms:>10.3} {p99_ms:>10.3} {hello_per_second:>10.0} {lists:>6}  {beside}");
    }
    Ok(())
}
