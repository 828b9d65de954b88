//! A short run of the program `chaos`, with a few troubles; `.ci/run` has a longer one. See its own documentation.

use std::process::Command;

#[test]
fn orders_survive_all_troubles_at_once() {
    if support::postgres::server().is_none() {
        return;
    }
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let output = chaos.args(["--seconds", "15", "--orders", "150", "--lease", "4"]).output().expect("it runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
