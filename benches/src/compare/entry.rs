//! The cost of a first program: one orchestration on SQLite.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Map, Value};

const MANIFEST: &str = r#"
[workspace]

[package]
name = "hello"
version = "0.0.0"
edition = "2024"

[dependencies]
duroxide = { path = "PATH" }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }

[profile.release]
strip = true
"#;

const PROGRAM: &str = r#"
use duroxide::prelude::*;

#[activity]
async fn greet(name: String) -> duroxide::Result<String> {
    Ok(format!("hello, {name}"))
}

#[orchestration]
async fn welcome(ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
    Ok(greet::call(&ctx, name).await?)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let runtime = Runtime::builder().sqlite("hello.db").start().await?;
    let handle = welcome::start(&runtime.client(), "first", "world".to_owned()).await?;
    println!("{}", handle.result().await?);
    runtime.shutdown().await?;
    Ok(())
}
"#;

/// Builds and runs the program in its own folder. `crates` counts the dependencies and build dependencies.
pub fn measure() -> duroxide::Result<Map<String, Value>> {
    let folder = tempfile::tempdir()?;
    let library = std::env::current_dir()?.join("duroxide");
    std::fs::create_dir(folder.path().join("src"))?;
    std::fs::write(folder.path().join("src/main.rs"), PROGRAM)?;
    std::fs::copy("Cargo.lock", folder.path().join("Cargo.lock"))?;
    std::fs::write(folder.path().join("Cargo.toml"), MANIFEST.replace("PATH", &library.to_string_lossy()))?;

    let tree = cargo(folder.path(), &["tree", "--prefix", "none", "--no-dedupe", "--edges", "normal,build"])?;
    let mut crates: Vec<_> = tree.lines().filter_map(|line| line.split(" (").next()).collect();
    crates.sort_unstable();
    crates.dedup();
    let begun = Instant::now();
    cargo(folder.path(), &["build"])?;
    let debug_build = begun.elapsed();
    cargo(folder.path(), &["build", "--release"])?;
    let size = std::fs::metadata(folder.path().join("target/release/hello"))?.len();
    let lines: Vec<_> = (0..5).map(|_| first_line_ms(folder.path())).collect::<duroxide::Result<_>>()?;
    let first_line = lines.into_iter().fold(f64::INFINITY, f64::min);
    Ok(Map::from_iter([
        ("crates".to_owned(), crates.len().into()),
        ("debug_build_seconds".to_owned(), debug_build.as_secs_f64().into()),
        ("binary_bytes".to_owned(), size.into()),
        ("first_line_ms".to_owned(), first_line.into()),
    ]))
}

/// Measures the time from the start of the debug program, without a database, to its only line: the result of an orchestration.
fn first_line_ms(folder: &Path) -> duroxide::Result<f64> {
    let place = tempfile::tempdir()?;
    let begun = Instant::now();
    let mut program =
        Command::new(folder.join("target/debug/hello")).current_dir(place.path()).stdout(Stdio::piped()).spawn()?;
    let line = program.stdout.take().map(BufReader::new).and_then(|out| out.lines().next());
    let time = begun.elapsed();
    program.wait()?;
    match line {
        Some(Ok(_)) => Ok(time.as_secs_f64() * 1e3),
        _ => Err(duroxide::Error::new("the program printed nothing")),
    }
}

fn cargo(folder: &Path, arguments: &[&str]) -> duroxide::Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(folder).env_remove("CARGO_TARGET_DIR").stderr(Stdio::inherit());
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(duroxide::Error::new(format!("cargo {} failed", arguments.join(" "))));
    }
    Ok(String::from_utf8(output.stdout)?)
}
