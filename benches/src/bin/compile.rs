//! Measures the compile time of annotated functions.

use std::path::PathBuf;

use clap::Parser;
use duroxide_bench::compile::{self, Build, FUNCTIONS, Programs};

/// Generates a program of annotated functions and one of plain async functions, builds both in turn, and prints the
/// processor times.
#[derive(Parser)]
struct Args {
    /// The number of rounds, whose medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The folder of the programs; one that exists is reused, with its built dependencies. Default: a temporary folder.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Leaves out the release builds, which take most of the time.
    #[arg(long)]
    no_release: bool,
    /// The folder of the library.
    #[arg(long, default_value = "duroxide")]
    library: PathBuf,
}

fn main() -> duroxide::Result<()> {
    let args = Args::parse();
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.unwrap_or_else(|| temporary.path().to_owned());
    let builds: Vec<_> = Build::ALL.into_iter().filter(|build| !args.no_release || *build != Build::Release).collect();
    let mut programs = Programs::write(&folder, &args.library, &builds)?;
    println!("an activity with three inputs and a state: {} lines expanded", programs.lines_of_one_activity()?);
    let mut times: Vec<_> = builds.into_iter().map(|build| (build, Vec::new())).collect();
    for _ in 0..args.rounds {
        for (build, times) in &mut times {
            times.push(programs.measure(*build)?);
        }
    }
    println!("processor seconds of {FUNCTIONS} functions\n{:>10} {:>10} {:>10}", "durable", "plain", "difference");
    for (build, times) in times {
        let compile::Times { durable, plain } = compile::medians(&times);
        println!("{durable:>10.2} {plain:>10.2} {:>10.2}  {}", durable - plain, build.name());
    }
    Ok(())
}
