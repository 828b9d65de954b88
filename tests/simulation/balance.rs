//! The share of each of several nodes.

use std::time::Duration;

use duroxide::provider::Filter;
use duroxide::testing::{Faults, Sim, Simulation, for_each_seed};
use duroxide::{Client, ClientError, RuntimeOptions};

use crate::program::{Name, Op, Program, Statement};

/// Returns the number of instances that the nodes own.
async fn owned(client: &Client) -> Result<u64, ClientError> {
    Ok(client.nodes().await?.iter().map(|node| node.instances).sum())
}

/// Starts 300 instances that wait for an event, at a time when all nodes have joined.
async fn start_waiting(sim: &Sim, client: &Client) -> Result<(), ClientError> {
    let program = Program { round: 1, statements: vec![Statement::Do(Op::Wait(Name::A))] };
    sim.sleep(Duration::from_secs(20)).await;
    for n in 0..300 {
        client.start("program", format!("root-{n}"), &program).await?;
    }
    sim.sleep(Duration::from_secs(30)).await;
    Ok(())
}

async fn finish_waiting(sim: &Sim, client: &Client) -> Result<(), ClientError> {
    for n in 0..300 {
        client.handle(format!("root-{n}")).raise_named(Name::A.text(), &0).await?;
    }
    sim.sleep(Duration::from_secs(60)).await;
    let open = client.list(&Filter::default(), 1_000).await?.instances;
    assert!(open.iter().all(|status| status.status.is_finished()), "each of them is claimed again");
    Ok(())
}

#[test]
fn evicted_instances_are_released_if_there_are_other_nodes() {
    for nodes in [1, 2] {
        for_each_seed(5, |seed| {
            let scenario = |sim: Sim| async move {
                let client = sim.client();
                start_waiting(&sim, &client).await?;
                let kept = if nodes == 1 { 300..=300 } else { 0..=20 };
                assert!(kept.contains(&owned(&client).await?));
                finish_waiting(&sim, &client).await
            };
            let options = RuntimeOptions::default().max_idle_instances(10);
            Simulation::new(seed).nodes(nodes).options(options).faults(Faults::none()).run(scenario)
        });
    }
}

#[test]
fn idle_instances_are_released_if_there_are_other_nodes() {
    for nodes in [1, 2] {
        for_each_seed(5, |seed| {
            let scenario = |sim: Sim| async move {
                let client = sim.client();
                start_waiting(&sim, &client).await?;
                assert_eq!(owned(&client).await?, 300, "they were used a moment ago");
                sim.sleep(Duration::from_secs(90)).await;
                assert_eq!(owned(&client).await?, if nodes == 1 { 300 } else { 0 });
                finish_waiting(&sim, &client).await
            };
            Simulation::new(seed).nodes(nodes).faults(Faults::none()).run(scenario)
        });
    }
}
