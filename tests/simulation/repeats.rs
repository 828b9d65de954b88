//! Each seed leads to the same run every time.

use duroxide::testing::Simulation;

use crate::scenario;

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
