//! Prints the tables of docs/scaling.md: a model of many nodes, from measured costs.

use clap::Parser;
use duroxide_bench::scaling;

/// Runs the model, and prints its tables.
#[derive(Parser)]
struct Args {
    /// Writes the tables into docs/scaling.md.
    #[arg(long)]
    write: bool,
}

fn main() -> duroxide::Result<()> {
    let tables = scaling::tables();
    println!("{tables}");
    if Args::parse().write {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scaling.md");
        let text = std::fs::read_to_string(path)?;
        let page = scaling::page(&text, &tables).ok_or_else(|| duroxide::Error::new("the page has no markers"))?;
        std::fs::write(path, page)?;
    }
    Ok(())
}
