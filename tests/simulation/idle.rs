//! Time in which no node has work costs nothing, however long it is.

use std::time::Duration;

use duroxide::prelude::*;
use duroxide::testing::{Faults, Sim, Simulation};

#[orchestration]
async fn sleeps_twice(ctx: OrchestrationContext, days: u64) -> duroxide::Result<()> {
    ctx.sleep(duroxide::days(days)).await;
    ctx.sleep(duroxide::days(days)).await;
    Ok(())
}

/// Returns the number of calls of the storage in a run that sleeps for a number of days, twice, while it runs and twice
/// after the faults have ended.
fn calls(seed: u64, days: u64, faults: Faults) -> u64 {
    let scenario = |sim: Sim| async move {
        let client = sim.client();
        let first = sleeps_twice::start(&client, "first", days).await?;
        sim.sleep(Duration::from_secs(86_400 * days)).await;
        first.result().await?;
        sleeps_twice::start(&client, "second", days).await?;
        Ok::<_, duroxide::Error>(())
    };
    let report = Simulation::new(seed).faults(faults).limit(duroxide::days(1_000)).run(scenario);
    report.unwrap_or_else(|failure| panic!("{failure}")).calls
}

#[test]
fn idle_time_costs_the_same_at_any_length() {
    for seed in 0..3 {
        for faults in [Faults::none(), Faults::all()] {
            let (short, long) = (calls(seed, 1, faults), calls(seed, 10, faults));
            assert!(long < short + 500, "seed {seed}, {faults:?}: {short} calls in 4 days, {long} in 40");
        }
    }
}
