//! A short run of the program `chaos`, with a few troubles; see its own documentation. `DUROXIDE_CHAOS` has the options of
//! another run, such as the longer one of `.ci/run`.

use std::process::Command;

const SHORT: &str = "--seconds 15 --orders 150 --lease 4";

#[test]
fn orders_survive_all_troubles_at_once() {
    if support::postgres::server().is_none() {
        return;
    }
    let options = std::env::var("DUROXIDE_CHAOS").unwrap_or_else(|_| SHORT.to_owned());
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let output = chaos.args(options.split_whitespace()).output().expect("it runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
