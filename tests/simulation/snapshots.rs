//! Random programs on a storage with the concurrency of a database.

use duroxide::testing::{Flaw, Simulation, for_each_seed};

use crate::scenario;

#[test]
fn random_programs_end_on_snapshots() {
    let alone = std::env::var_os("DUROXIDE_SEED").is_some();
    for_each_seed(500, |seed| scenario::run_with(Simulation::new(seed).snapshots(true), seed, alone));
}

fn find(flaw: Flaw, is_it: impl Fn(&str) -> bool) {
    let mut found = 0;
    for seed in 0..1000 {
        let Err(failure) = scenario::run_with(Simulation::new(seed).flaw(flaw), seed, false) else { continue };
        found += 1;
        if found < 12 { eprintln!("{failure}"); }
    }
    eprintln!("{flaw:?}: {found}");
}

#[test]
fn w1() {
    find(Flaw::NumbersBeforeVisibility, |_| true);
}

#[test]
fn w2() {
    find(Flaw::BirthDoesNotExcludeTakeOver, |_| true);
}
