//! Programs on a store with the concurrency of a database: they end under all faults, and the simulation finds each flaw that
//! is planted in the store.

use std::time::Duration;

use duroxide::testing::{Failure, Faults, Flaw, Report, Sim, Simulation, for_each_seed};
use duroxide::{Client, ClientError};
use futures_util::future::{join, try_join_all};

use crate::program::{Name, Op, Program, Statement};
use crate::scenario;

#[test]
fn random_programs_end_on_a_snapshot_store() {
    let alone = std::env::var_os("DUROXIDE_SEED").is_some();
    for_each_seed(200, |seed| scenario::run(Simulation::new(seed).snapshots(true), seed, alone));
}

#[test]
fn snapshot_store_loses_and_orphans_nothing() {
    for_each_seed(50, |seed| concurrent_events(Simulation::new(seed).snapshots(true)));
    for_each_seed(50, |seed| deaths_at_starts(Simulation::new(seed).snapshots(true)));
    for_each_seed(100, |seed| events_beside_a_claim(Simulation::new(seed).snapshots(true)));
}

#[test]
fn numbers_before_the_lock_lose_a_message() {
    finds(Flaw::NumbersBeforeLock, concurrent_events, "were not read in 600 s without faults");
}

#[test]
fn start_owned_by_an_expiring_node_leaves_an_orphan() {
    finds(Flaw::CreationAllowsTakeOver, deaths_at_starts, "is orphaned");
}

#[test]
fn claim_of_an_older_snapshot_lacks_a_message() {
    finds(Flaw::ClaimReadsBeforeItLocks, events_beside_a_claim, "were not read in 600 s without faults");
}

/// Asserts that one of 1,000 seeds reports the flaw, with a finding that contains these words.
fn finds(flaw: Flaw, scenario: impl Fn(Simulation) -> Result<Report, Failure>, words: &str) {
    let is_found = |seed: &u64| {
        let findings = scenario(Simulation::new(*seed).flaw(flaw)).err().map(|failure| failure.findings);
        findings.into_iter().flatten().any(|finding| finding.contains(words))
    };
    assert_ne!((0..1_000).find(is_found), None, "{flaw:?} was not found");
}

/// Clients send two events to each of several instances at the same time; no node dies.
fn concurrent_events(simulation: Simulation) -> Result<Report, Failure> {
    let waits = || Statement::Do(Op::Wait(Name::A));
    let program = Program { round: 1, statements: vec![waits(), waits()] };
    let scenario = |sim: Sim| async move {
        let client = sim.client();
        let ids: Vec<_> = (0..4).map(|n| format!("root-{n}")).collect();
        for id in &ids {
            client.start("program", id, &program).await?;
        }
        sim.sleep(Duration::from_secs(1)).await;
        let raise = |id: &String| {
            let handle = client.handle(id);
            async move { handle.raise_named(Name::A.text(), &0).await }
        };
        try_join_all(ids.iter().chain(&ids).map(raise)).await?;
        Ok::<_, ClientError>(())
    };
    // Without another node, no release of an idle instance brings the lost message.
    simulation.nodes(1).faults(Faults::none()).run(scenario)
}

/// Nodes die while they create instances and activities, or soon after.
fn deaths_at_starts(simulation: Simulation) -> Result<Report, Failure> {
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

/// A node claims an instance while clients of two processes send events to it, one after the other.
fn events_beside_a_claim(simulation: Simulation) -> Result<Report, Failure> {
    let waits = || Statement::Do(Op::Wait(Name::A));
    let program = Program { round: 1, statements: vec![waits(), waits()] };
    let scenario = |sim: Sim| async move {
        sim.sleep(Duration::from_secs(1)).await;
        for n in 0..8 {
            let id = format!("root-{n}");
            let raise = |client: Client, number: u64| {
                let handle = client.handle(&id);
                async move { handle.raise_named(Name::A.text(), &number).await }
            };
            sim.client().start("program", &id, &program).await?;
            raise(sim.client(), 0).await?;
            sim.on_node(0, |client| raise(client, 1)).await.unwrap_or(Ok(()))?;
            raise(sim.client(), 2).await.or_else(|error| if error.is_finished() { Ok(()) } else { Err(error) })?;
        }
        Ok::<_, ClientError>(())
    };
    simulation.nodes(1).faults(Faults::none()).run(scenario)
}
