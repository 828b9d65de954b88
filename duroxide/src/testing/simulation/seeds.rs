//! Runs many seeds.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Failure, Report};
use crate::replay::panicked;

/// The number of failures after which no further seed is begun.
const ENOUGH: usize = 10;

/// Runs a simulation with many seeds, on all processors, and panics if any of them fails. It stops after ten failures.
///
/// Three environment variables choose the seeds: `DUROXIDE_SEEDS` is their number (default: `seeds`),
/// `DUROXIDE_FIRST_SEED` the first seed (default: 0), and `DUROXIDE_SEED` runs a single seed, whose trace is printed if
/// it fails and the simulation [records one](super::Simulation::trace).
///
/// # Panics
/// Panics if a seed fails, with the failed seeds and their findings, or if a variable is not a number.
///
/// ```standalone_crate
/// use duroxide::testing::{Faults, Simulation, for_each_seed};
///
/// for_each_seed(10, |seed| {
///     Simulation::new(seed).faults(Faults::none()).run(|_| async { Ok::<_, duroxide::Error>(()) })
/// });
/// ```
pub fn for_each_seed(seeds: u64, run: impl Fn(u64) -> Result<Report, Failure> + Sync) {
    if let Some(seed) = variable("DUROXIDE_SEED") {
        let failure = run(seed).err();
        if let Some(failure) = failure {
            failure.trace.iter().for_each(|line| eprintln!("{line}"));
            panic!("{failure}");
        }
        return;
    }
    let first = variable("DUROXIDE_FIRST_SEED").unwrap_or(0);
    let end = first.saturating_add(variable("DUROXIDE_SEEDS").unwrap_or(seeds));
    let (next, failed) = (AtomicU64::new(first), Mutex::new(BTreeMap::new()));
    let failed_at = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        while failed_at().len() < ENOUGH {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let found = match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(Ok(_)) => continue,
                Ok(Err(failure)) => failure.to_string(),
                Err(panic) => format!("seed {seed}: {:?}", panicked(&*panic).failure),
            };
            failed_at().insert(seed, found);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = std::mem::take(&mut *failed_at());
    let tried = next.into_inner().min(end) - first;
    if let Some((seed, _)) = failed.first_key_value() {
        let found: Vec<_> = failed.values().map(String::as_str).collect();
        let (count, found) = (failed.len(), found.join("\n\n"));
        panic!(
            "{count} of {tried} seeds failed\n\n{found}\n\nTo run the first of them again, set DUROXIDE_SEED={seed}"
        );
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}
