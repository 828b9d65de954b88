//! Programs that must compile and run, and programs that must not compile, with their compiler errors.
//!
//! A program that must compile and run is a test target of this package; trybuild would build each anew in every run.
//! `TRYBUILD=overwrite cargo test -p ui-tests` writes the `.stderr` files again.

use std::path::Path;
use std::process::Command;

/// The compiler of the `.stderr` files. Other versions word their errors differently.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn ui() {
    if compiler().starts_with(COMPILER) {
        // Without a program that must compile, trybuild checks all of them in one run of cargo.
        trybuild::TestCases::new().compile_fail("fail/*/*.rs");
    } else {
        eprintln!("only the programs that compile are checked: the expected errors are those of {COMPILER}x");
    }
}

#[test]
fn each_program_that_compiles_is_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the manifest can be read");
    for program in folder.join("pass").read_dir().expect("the folder can be read") {
        let name = program.expect("the folder can be read").file_name();
        let line = format!("path = \"pass/{}\"\nharness = false", name.display());
        assert!(manifest.contains(&line), "{line}");
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc can be asked for its version");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
