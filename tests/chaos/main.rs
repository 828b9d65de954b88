//! Nodes in processes of their own on a PostgreSQL server, with everything that can happen to them: they are killed and
//! stopped, their connections break and stall, their clocks are wrong, and the server crashes. All orders end, each with one
//! result.
//!
//! ```text
//! cargo run -p duroxide-tests --bin chaos -- --minutes 60 --orders 20000
//! ```
//!
//! - `--minutes`, `--seconds`: the time of the troubles. Default: two minutes.
//! - `--orders`: the number of orders, which are started in that time. Default: 5,000.
//! - `--nodes`: the number of processes. Default: 4.
//! - `--lease`: the lease time in seconds. Default: 6.
//! - `--seed`: another choice of troubles. Default: 1.
//!
//! All troubles are printed. If a check fails, the folder with the logs of the nodes remains, and its name is printed.

#![allow(clippy::unwrap_used, reason = "a check that meets an error has failed")]

mod check;
mod effects;
mod node;
mod orders;
mod troubles;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::world::World;

/// The options of a run.
#[derive(Debug, Clone)]
struct Options {
    time: Duration,
    orders: u32,
    nodes: usize,
    lease: Duration,
    seed: u64,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { time: Duration::from_secs(120), orders: 5000, nodes: 4, lease: Duration::from_secs(6), seed: 1 };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            let number: u64 = value.parse().map_err(|error| format!("{name} {value}: {error}"))?;
            match name.as_str() {
                "--minutes" => options.time = Duration::from_secs(60 * number),
                "--seconds" => options.time = Duration::from_secs(number),
                "--orders" => options.orders = u32::try_from(number).map_err(|error| error.to_string())?,
                "--nodes" => options.nodes = usize::try_from(number).map_err(|error| error.to_string())?.max(1),
                "--lease" => options.lease = Duration::from_secs(number),
                "--seed" => options.seed = number,
                _ => return Err(format!("{name} is not an option")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::var_os(node::SCHEMA).is_some() {
        runtime.block_on(node::run());
        return ExitCode::SUCCESS;
    }
    match Options::read(std::env::args().skip(1)) {
        Ok(options) => runtime.block_on(run(options)),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The longest time that the orders take once the troubles have ended, besides the lease times of take-overs.
const REST: Duration = Duration::from_secs(120);

async fn run(options: Options) {
    println!("{options:?}");
    let Some(world) = World::start(&options).await else {
        println!("PostgreSQL is not installed");
        return;
    };
    let begun = Instant::now();
    let orders = tokio::spawn(orders::run_all(world.clients(), options.orders, options.time));
    let watch = tokio::spawn(check::watch(world.direct_url(), world.schema(), world.harmed()));
    troubles::bring(&world, &options).await;
    println!("{:.1} s: the troubles have ended", begun.elapsed().as_secs_f64());
    let results = tokio::time::timeout(REST + 4 * options.lease, orders).await;
    let Ok(results) = results else {
        check::print_unfinished(world.direct_url(), world.schema()).await;
        panic!("not all orders have ended; logs: {}", world.keep().display());
    };
    let results = results.unwrap();
    println!("{:.1} s: all orders have ended", begun.elapsed().as_secs_f64());
    watch.abort();
    world.end_nodes();
    check::check(&world, &results).await;
    world.remove();
}
