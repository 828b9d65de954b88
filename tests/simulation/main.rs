//! Random programs under random faults. To run other seeds, or more of them:
//!
//! ```text
//! DUROXIDE_SEEDS=20000 DUROXIDE_FIRST_SEED=1000 cargo test --release -p duroxide-tests --test simulation random
//! DUROXIDE_SEED=1234 cargo test -p duroxide-tests --test simulation random    # one seed, with its trace
//! ```
//!
//! `.ci/run` runs 5,000. Each of them also checks the counters of the metrics.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod activities;
mod balance;
mod idle;
mod metrics;
mod program;
mod repeats;
mod scenario;
mod snapshots;

use duroxide::testing::{Simulation, for_each_seed};

#[test]
fn random_programs_end_under_all_faults() {
    let alone = std::env::var_os("DUROXIDE_SEED").is_some();
    for_each_seed(200, |seed| metrics::checked(seed, || scenario::run(Simulation::new(seed), seed, alone)));
}
