//! The metrics under crashes, lost answers and lost leases: each committed fact is counted once.

use std::collections::BTreeMap;

use ::metrics::with_local_recorder;
use duroxide::ClientError;
use duroxide::client::StoreMetrics;
use duroxide::prelude::*;
use duroxide::telemetry::names;
use duroxide::testing::{Answered, Failure, Faults, Report, Sim, Simulation, for_each_seed};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::program::Program;
use crate::scenario;

/// The sums of the counters of a run, by name and by the value of the label `outcome`.
struct Counted(Vec<(String, Option<String>, u64)>);

impl Counted {
    fn sum(&self, name: &str) -> u64 {
        self.0.iter().filter(|(counter, _, _)| counter == name).map(|(_, _, value)| value).sum()
    }

    fn by_outcome(&self, name: &str) -> BTreeMap<&str, u64> {
        let mut sums = BTreeMap::new();
        for (_, outcome, value) in self.0.iter().filter(|(counter, _, value)| counter == name && *value > 0) {
            *sums.entry(outcome.as_deref().expect("an outcome")).or_default() += value;
        }
        sums
    }
}

/// Runs a seed, and returns its report and its counters.
fn measured(run: impl FnOnce() -> Result<Report, Failure>) -> Result<(Report, Counted), Failure> {
    let recorder = DebuggingRecorder::new();
    let report = with_local_recorder(&recorder, run)?;
    let all = recorder.snapshotter().snapshot().into_vec().into_iter();
    let counters = all.filter_map(|(key, _, _, value)| {
        let DebugValue::Counter(value) = value else { return None };
        let outcome = key.key().labels().find(|label| label.key() == "outcome").map(|label| label.value().to_owned());
        Some((key.key().name().to_owned(), outcome, value))
    });
    Ok((report, Counted(counters.collect())))
}

#[test]
fn metrics_count_each_answered_commit_once() {
    for_each_seed(150, |seed| {
        let (report, counted) = measured(|| scenario::run(Simulation::new(seed), seed, false))?;
        let Answered { starts, ends, continues, suspensions, outcomes, retries, .. } = &report.answered;
        let expected = [
            (names::ORCHESTRATION_STARTS, *starts),
            (names::ORCHESTRATION_CONTINUES, *continues),
            (names::ORCHESTRATION_SUSPENSIONS, *suspensions),
            (names::ACTIVITY_OUTCOMES, *outcomes),
            (names::ACTIVITY_RETRIES, *retries),
        ];
        for (name, expected) in expected {
            assert_eq!(counted.sum(name), expected, "seed {seed}: {name}");
        }
        assert_eq!(&counted.by_outcome(names::ORCHESTRATION_ENDS), ends, "seed {seed}");
        let failed = ends.get("failed").copied().unwrap_or_default();
        assert_eq!(counted.sum(names::ORCHESTRATION_FAILURES), failed, "seed {seed}");
        assert!(counted.sum(names::ACTIVITY_ATTEMPTS) >= *outcomes, "seed {seed}");
        Ok(report)
    });
}

/// Without crashes and lost answers, every commit that is carried out is answered: n starts are n.
#[test]
fn metrics_equal_the_stored_state_if_no_answer_is_lost() {
    let faults = Faults::all().crashes(false).lost_answers(false).late(false).outages(false);
    for_each_seed(100, |seed| {
        let simulation = Simulation::new(seed).faults(faults);
        let (report, counted) = measured(|| simulation.run(|sim| async move { start_each_once(&sim).await }))?;
        let ends = counted.by_outcome(names::ORCHESTRATION_ENDS);
        assert_eq!(ends.values().sum::<u64>(), report.instances as u64, "seed {seed}: {ends:?}");
        let starts = counted.sum(names::ORCHESTRATION_STARTS);
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

/// Takes the values of all gauges, by name and by the values of their labels.
fn gauges(recorder: &Snapshotter) -> BTreeMap<String, Vec<(Vec<String>, f64)>> {
    let mut gauges: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshot().into_vec() {
        if let DebugValue::Gauge(value) = value {
            let labels = key.key().labels().map(|label| label.value().to_owned()).collect();
            gauges.entry(key.key().name().to_owned()).or_default().push((labels, value.into_inner()));
        }
    }
    gauges
}

#[test]
fn gauges_of_the_store_are_exact_after_a_crash() {
    let recorder = DebuggingRecorder::new();
    let shown = recorder.snapshotter();
    let simulation = Simulation::new(1).nodes(2).faults(Faults::none());
    let run = |sim: Sim| async move {
        let labels = |state: &str| ["gauged", "1.2.0", state].map(str::to_owned).to_vec();
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
        let all = gauges(&shown);
        assert_eq!(all[names::ACTIVE], [(labels("running"), 3.0)]);
        let age = all[names::ACTIVE_AGE][0].1;
        assert!((120.0..121.0).contains(&age), "the age is that of the instance, not of its execution: {age}");
        for number in 0..3 {
            gauged::handle(&client, format!("gauged-{number}")).raise(NextRound).await?;
            gauged::handle(&client, format!("gauged-{number}")).raise(NextRound).await?;
        }
        sim.sleep(minutes(1) + StoreMetrics::CACHE_TIME).await;
        store.update().await?;
        let all = gauges(&shown);
        assert_eq!(all[names::ACTIVE], [(labels("running"), 0.0)], "a group that is gone");
        assert_eq!(all[names::NODES], [(vec![], 2.0)]);
        Ok::<_, duroxide::Error>(())
    };
    with_local_recorder(&recorder, || simulation.run(run)).expect("no findings");
}
