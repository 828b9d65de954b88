//! The metrics under crashes, lost answers and lost leases: each committed fact is counted once.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::metrics::with_local_recorder;
use duroxide::ClientError;
use duroxide::client::StoreMetrics;
use duroxide::prelude::*;
use duroxide::telemetry::names;
use duroxide::testing::{Answered, Failure, Faults, Report, Sim, Simulation, for_each_seed};
use support::recorder::Recorded;

use crate::program::Program;
use crate::scenario;

/// Runs a seed, and returns its report and its counters.
fn measured(run: impl FnOnce() -> Result<Report, Failure>) -> Result<(Report, Recorded), Failure> {
    // The values of histograms are not needed, and would take more time than the rest of the run.
    let recorder = Recorded::counters();
    let report = with_local_recorder(&recorder, run)?;
    Ok((report, recorder))
}

/// Runs a seed, and checks that each answered commit was counted once.
pub(crate) fn checked(seed: u64, run: impl FnOnce() -> Result<Report, Failure>) -> Result<Report, Failure> {
    let (report, counted) = measured(run)?;
    let Answered { starts, ends, continues, suspensions, outcomes, retries, .. } = &report.answered;
    let expected = [
        (names::ORCHESTRATION_STARTS, *starts),
        (names::ORCHESTRATION_CONTINUES, *continues),
        (names::ORCHESTRATION_SUSPENSIONS, *suspensions),
        (names::ACTIVITY_OUTCOMES, *outcomes),
        (names::ACTIVITY_RETRIES, *retries),
    ];
    for (name, expected) in expected {
        assert_eq!(counted.counter(name, &[]), expected, "seed {seed}: {name}");
    }
    let ends: BTreeMap<_, _> = ends.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect();
    assert_eq!(counted.by_label(names::ORCHESTRATION_ENDS, "outcome"), ends, "seed {seed}");
    let failed = ends.get("failed").copied().unwrap_or_default();
    assert_eq!(counted.counter(names::ORCHESTRATION_FAILURES, &[]), failed, "seed {seed}");
    assert!(counted.counter(names::ACTIVITY_ATTEMPTS, &[]) >= *outcomes, "seed {seed}");
    Ok(report)
}

/// Without crashes and lost answers, every commit that is carried out is answered: n starts are n.
#[test]
fn metrics_equal_the_stored_state_if_no_answer_is_lost() {
    let faults = Faults::all().crashes(false).lost_answers(false).late(false).outages(false);
    for_each_seed(100, |seed| {
        let simulation = Simulation::new(seed).faults(faults);
        let (report, counted) = measured(|| simulation.run(|sim| async move { start_each_once(&sim).await }))?;
        let ends = counted.by_label(names::ORCHESTRATION_ENDS, "outcome");
        assert_eq!(ends.values().sum::<u64>(), report.instances as u64, "seed {seed}: {ends:?}");
        let starts = counted.counter(names::ORCHESTRATION_STARTS, &[]);
        let not_begun = report.instances as u64 - starts;
        // A child may be terminated before its first turn.
        assert!(not_begun <= ends.get("terminated").copied().unwrap_or_default(), "seed {seed}: {starts} starts");
        Ok(report)
    });
}

async fn start_each_once(sim: &Sim) -> Result<(), ClientError> {
    for number in 0..6 {
        let program = Program::any(&mut |n| sim.below(n), 2);
        sim.client().start("program", format!("root-{number}"), &program).await?;
    }
    sim.quiesce().await;
    scenario::finish(sim).await
}

#[event]
struct NextRound;

#[orchestration(version = "1.2.0")]
async fn gauged(ctx: OrchestrationContext, rounds: u32) -> duroxide::Result<u32> {
    ctx.event::<NextRound>().await;
    if rounds > 0 { gauged::continue_as_new(&ctx, rounds - 1).await } else { Ok(0) }
}

#[test]
fn gauges_of_the_store_are_exact_after_a_crash() {
    let recorder = Arc::new(Recorded::default());
    let shown = recorder.clone();
    let simulation = Simulation::new(1).nodes(2).faults(Faults::none());
    let run = |sim: Sim| async move {
        let labels = |state: &'static str| [("name", "gauged"), ("version", "1.2.0"), ("state", state)];
        let gauge = |name: &str| shown.gauge(name, &[]);
        let active = |state| shown.gauge(names::ACTIVE, &labels(state));
        let client = sim.client();
        for number in 0..3 {
            gauged::start(&client, format!("gauged-{number}"), 1).await?;
        }
        sim.sleep(minutes(1)).await;
        gauged::handle(&client, "gauged-0").raise(NextRound).await?;
        sim.sleep(minutes(1)).await;
        sim.crash(0);
        sim.crash(1);
        // A reader that has seen nothing before.
        let store = StoreMetrics::new(client.clone());
        store.update().await?;
        assert_eq!((active("running"), active("suspended"), active("paused")), (Some(3.0), None, None));
        let age = shown.gauge(names::ACTIVE_AGE, &labels("running")).unwrap();
        assert!((120.0..121.0).contains(&age), "the age is that of the instance, not of its execution: {age}");
        // A pause is no trouble, unlike another suspension.
        gauged::handle(&client, "gauged-1").suspend("gateway migration").await?;
        sim.sleep(StoreMetrics::CACHE_TIME).await;
        store.update().await?;
        assert_eq!((active("running"), active("suspended"), active("paused")), (Some(2.0), None, Some(1.0)));
        assert_eq!((gauge(names::CAUSED), gauge(names::LARGEST_CAUSE)), (Some(0.0), Some(0.0)));
        gauged::handle(&client, "gauged-1").resume().await?;
        for number in 0..3 {
            gauged::handle(&client, format!("gauged-{number}")).raise(NextRound).await?;
            gauged::handle(&client, format!("gauged-{number}")).raise(NextRound).await?;
        }
        sim.sleep(minutes(1) + StoreMetrics::CACHE_TIME).await;
        store.update().await?;
        assert_eq!((active("running"), active("paused")), (Some(0.0), Some(0.0)), "a group that is gone");
        assert_eq!(gauge(names::NODES), Some(2.0));
        Ok::<_, duroxide::Error>(())
    };
    with_local_recorder(&recorder, || simulation.run(run)).expect("no findings");
}
