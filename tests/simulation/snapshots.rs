//! A storage with the concurrency of a database: whatever goes wrong, programs come to their ends; and what the simulation
//! finds when the storage has a flaw.

use std::time::Duration;

use duroxide::ClientError;
use duroxide::testing::{Failure, Faults, Flaw, Report, Sim, Simulation, for_each_seed};
use futures_util::future::{join, try_join_all};

use crate::program::{Name, Op, Program, Statement};
use crate::scenario;

#[test]
fn random_programs_end_on_a_storage_with_snapshots() {
    let alone = std::env::var_os("DUROXIDE_SEED").is_some();
    for_each_seed(500, |seed| scenario::run_with(Simulation::new(seed).snapshots(true), seed, alone));
}

#[test]
fn concurrent_events_and_deaths_lose_nothing_on_snapshots() {
    for_each_seed(100, |seed| concurrent_events(Simulation::new(seed).snapshots(true)));
    for_each_seed(100, |seed| deaths_at_births(Simulation::new(seed).snapshots(true)));
}

#[test]
fn numbers_before_visibility_lose_a_message() {
    finds(Flaw::NumbersBeforeVisibility, concurrent_events, "were not read in 600 s of calm");
}

#[test]
fn birth_beside_a_take_over_leaves_an_orphan() {
    finds(Flaw::BirthDoesNotExcludeTakeOver, deaths_at_births, "is orphaned");
}

/// Asserts that one of 1,000 seeds finds a storage with this flaw, by these words.
fn finds(flaw: Flaw, scenario: impl Fn(Simulation) -> Result<Report, Failure>, words: &str) {
    let finds = |seed: &u64| {
        let findings = scenario(Simulation::new(*seed).flaw(flaw)).err().map(|failure| failure.findings);
        findings.into_iter().flatten().any(|finding| finding.contains(words))
    };
    assert_ne!((0..1_000).find(finds), None, "{flaw:?} was not found");
}

/// Clients send events to several instances at the same time; no node dies.
fn concurrent_events(simulation: Simulation) -> Result<Report, Failure> {
    let events = 3;
    let waits = || Statement::Do(Op::Wait(Name::A));
    let program = Program { round: 1, statements: (0..events).map(|_| waits()).collect() };
    let scenario = |sim: Sim| async move {
        let client = sim.client();
        let ids: Vec<_> = (0..4).map(|n| format!("root-{n}")).collect();
        for id in &ids {
            client.start("program", id, &program).await?;
        }
        sim.sleep(Duration::from_secs(1)).await;
        for number in 0..events {
            let raise = |id: &String| {
                let handle = sim.client().handle(id);
                async move { handle.raise_named(Name::A.text(), &number).await }
            };
            try_join_all(ids.iter().map(raise)).await?;
        }
        Ok::<_, ClientError>(())
    };
    simulation.faults(Faults::none()).run(scenario)
}

/// Nodes die at the moment at which they create instances and activities, or soon after.
fn deaths_at_births(simulation: Simulation) -> Result<Report, Failure> {
    let works = || Op::Activity { failures: 0, attempts: 0, timeout: None, deadline: None, detached: false };
    let program = Program { round: 1, statements: (0..3).map(|_| Statement::Do(works())).collect() };
    let scenario = |sim: Sim| async move {
        for n in 0..12 {
            let node = n % 3;
            let start = sim.on_node(node, |client| {
                let start = client.start("program", format!("root-{n}"), &program);
                async move { start.await.map(drop) }
            });
            let death = async {
                sim.sleep(Duration::from_millis(sim.below(20))).await;
                sim.crash(node);
            };
            join(start, death).await.0.unwrap_or(Ok(()))?;
            sim.sleep(Duration::from_millis(sim.below(100))).await;
        }
        Ok::<_, ClientError>(())
    };
    simulation.faults(Faults::none()).run(scenario)
}

#[test]
fn count() {
    for (flaw, scenario, words) in [
        (Flaw::NumbersBeforeVisibility, concurrent_events as fn(Simulation) -> _, "calm"),
        (Flaw::BirthDoesNotExcludeTakeOver, deaths_at_births, "is orphaned"),
    ] {
        let (mut found, mut other) = (Vec::new(), Vec::new());
        for seed in 0..1000 {
            let Err(failure) = scenario(Simulation::new(seed).flaw(flaw)) else { continue };
            if failure.findings.iter().any(|f| f.contains(words)) { found.push(seed) } else { other.push(seed) }
            if found.len() + other.len() < 15 { eprintln!("{}", failure.to_string().chars().take(400).collect::<String>()); }
        }
        eprintln!("{flaw:?}: {:?} {}, other {:?} {}", found.first(), found.len(), other.first(), other.len());
        let count = (0..1000).filter(|seed| scenario(Simulation::new(*seed).snapshots(true)).is_err()).count();
        eprintln!("without: {count}");
    }
}
