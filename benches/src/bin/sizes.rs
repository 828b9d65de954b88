//! Measures requests to PostgreSQL databases of several sizes.

use std::time::Duration;

use clap::Parser;
use duroxide_bench::server::{SCHEMA, Server, connect};
use duroxide_bench::setup::Level;
use duroxide_bench::sizes;
use duroxide_postgres::{PostgresOptions, PostgresProvider};

/// Fills databases of several sizes, each with n finished and n waiting instances, and prints the median times of requests
/// in milliseconds.
#[derive(Parser)]
struct Args {
    /// The sizes.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    sizes: Vec<u64>,
    /// The number of instances that are claimed while a snapshot is open, in the largest database.
    #[arg(long, default_value_t = 200_000)]
    claims: usize,
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let args = Args::parse();
    let server = Server::new(None, Level::Full, Duration::ZERO).await?;
    let largest = args.sizes.iter().max().copied().unwrap_or_default();
    for (size, url) in args.sizes.iter().zip(server.databases(u32::try_from(args.sizes.len())?).await?) {
        let options = PostgresOptions::new(&url).schema(SCHEMA);
        let client = connect(&url).await?;
        drop(PostgresProvider::connect_with(options.clone()).await?);
        sizes::build(&client, *size).await?;
        let provider = PostgresProvider::connect_with(options).await?;
        let claims = if *size == largest { args.claims } else { 0 };
        println!("{size} finished and {size} waiting instances");
        for sizes::Measured { request, ms } in sizes::measure(&provider, claims, client).await? {
            println!("{ms:>10.3}  {request}");
        }
    }
    Ok(())
}
