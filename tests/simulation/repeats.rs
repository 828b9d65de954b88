//! A seed leads to the same run, each time.

use crate::scenario;

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..40 {
        let runs = [(); 2].map(|()| scenario::run(seed, true).unwrap_or_else(|failure| panic!("{failure}")));
        let [first, second] = runs.map(|report| report.trace);
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        if let Some(line) = differs {
            panic!("seed {seed}, line {line}:\n{}\n{}", first[line], second[line]);
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}
