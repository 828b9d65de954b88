//! A short run of the program `chaos`; see its own documentation for longer ones.

use std::process::Command;

#[test]
fn orders_survive_all_troubles_at_once() {
    if support::postgres::server().is_none() {
        return;
    }
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let output = chaos.args(["--seconds", "40", "--orders", "400", "--lease", "4"]).output().expect("it runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
