//! Programs that must compile and run, and programs that must not compile, with their compiler errors.
//!
//! `TRYBUILD=overwrite cargo test -p ui-tests` writes the `.stderr` files again.

use std::process::Command;

/// The compiler of the `.stderr` files. Other versions word their errors differently.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("pass/*.rs");
    if compiler().starts_with(COMPILER) {
        cases.compile_fail("fail/*/*.rs");
    } else {
        eprintln!("only the programs that compile are checked: the expected errors are those of {COMPILER}x");
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc can be asked for its version");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
