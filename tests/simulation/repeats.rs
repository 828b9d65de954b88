//! Each seed leads to the same run every time; and programs end under each kind of fault alone.

use duroxide::testing::{Faults, Simulation, for_each_seed};

use crate::scenario;

#[test]
fn programs_end_under_each_kind_of_fault_alone() {
    let kinds: [fn(Faults, bool) -> Faults; 11] = [
        Faults::delays,
        Faults::errors,
        Faults::lost_answers,
        Faults::late,
        Faults::crashes,
        Faults::restarts,
        Faults::outages,
        Faults::lost_leases,
        Faults::skew,
        Faults::evictions,
        Faults::pauses,
    ];
    let none = Faults::none();
    for (n, kind) in kinds.into_iter().enumerate() {
        let alone = kind(none, true);
        assert_eq!((kind(alone, false), kind(Faults::all(), true)), (none, Faults::all()));
        assert!(kinds.iter().enumerate().all(|(m, other)| (other(none, true) == alone) == (m == n)), "kind {n}");
        for_each_seed(10, |seed| scenario::run(Simulation::new(seed).faults(alone), seed, false));
    }
}

#[test]
fn same_seed_repeats_the_run() {
    for (seed, snapshots) in (0..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let run = || scenario::run(Simulation::new(seed).snapshots(snapshots), seed, true);
        let runs = [(); 2].map(|()| run().unwrap_or_else(|failure| panic!("{failure}")));
        let [first, second] = runs.map(|report| report.trace);
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        if let Some(line) = differs {
            panic!("seed {seed}, line {line}:\n{}\n{}", first[line], second[line]);
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}
