//! A process after the death of another.

use std::time::{Duration, Instant};

use duroxide::prelude::*;
use duroxide::provider::{Filter, InstanceStatus};

use crate::ledger::SharedFolder;
use crate::orders::{Approval, Order, held_order, process_order, race_for_quote};
use crate::process::Process;

#[tokio::test]
async fn restarted_process_claims_work_at_once() {
    let folder = SharedFolder::new();
    let client = folder.client();
    let mut handles = Vec::new();
    for number in 0..8 {
        handles.push(held_order::start(&client, format!("held-{number}"), number).await.unwrap());
    }
    let mut first = Process::spawn("serve", folder.path(), 0);
    for _ in 0..8 {
        while !first.line().await.starts_with("holds ") {}
    }
    first.kill();
    let mut second = Process::spawn("serve", folder.path(), 0);
    second.send("release");
    second.expect("ready").await;
    let ready = Instant::now();
    for handle in handles {
        assert_eq!(handle.result().await.unwrap(), second.id());
    }
    assert!(
        ready.elapsed() < Duration::from_secs(2),
        "{:?}; the lease of the dead process is a minute",
        ready.elapsed()
    );
    second.end();
}

#[tokio::test]
async fn race_has_the_same_winner_after_a_kill() {
    const RACES: u32 = 60;
    let folder = SharedFolder::new();
    let client = folder.client();
    let mut handles = Vec::new();
    for number in 0..RACES {
        handles.push(race_for_quote::start(&client, format!("race-{number}"), number).await.unwrap());
    }
    let mut first = Process::spawn("serve", folder.path(), 0);
    for _ in 0..RACES {
        first.expect("noted").await;
    }
    first.kill();
    let second = Process::spawn("serve", folder.path(), 0);
    let mut winners = Vec::new();
    for (number, handle) in (0..).zip(&handles) {
        handle.raise(Approval { number }).await.unwrap();
        winners.push(handle.result().await.unwrap());
    }
    second.end();
    for line in folder.ledger().iter().filter(|line| line[0] == "winner") {
        let number: usize = line[1].parse().unwrap();
        assert_eq!(line[2], winners[number], "race {number}");
    }
    let won = |by: &str| winners.iter().filter(|winner| *winner == by).count();
    println!("{} were won by the activity, {} by the timer", won("activity"), won("timer"));
    assert!(won("activity") >= 15 && won("timer") >= 15);
}

#[tokio::test]
async fn client_without_a_runtime_can_start_and_wait() {
    let folder = SharedFolder::new();
    let client = folder.client();
    // No node runs yet; all requests are stored.
    let order = process_order::start(&client, Order::id(4), Order::new(4)).await.unwrap();
    order.raise(Approval { number: 4 }).await.unwrap();
    let not_wanted = held_order::start(&client, "not-wanted", 1).await.unwrap();
    not_wanted.cancel("changed my mind").await.unwrap();
    let cancelled = held_order::start(&client, "cancelled", 2).await.unwrap();
    let terminated = held_order::start(&client, "terminated", 3).await.unwrap();
    let finished = held_order::start(&client, "finished", 4).label("kind", "held").await.unwrap();
    let status = finished.status().await.unwrap();
    assert_eq!((status.status, status.events.0), (InstanceStatus::Running, 0));
    assert!(client.nodes().await.unwrap().is_empty());
    assert_eq!(client.list(&Filter::default(), 100).await.unwrap().instances.len(), 5);

    let mut process = Process::spawn("serve", folder.path(), 0);
    assert_eq!(order.result().await.unwrap().len(), 3);
    let reason = |outcome: Result<u32, OutcomeError<duroxide::Error>>| match outcome {
        Err(OutcomeError::Cancelled { reason }) => format!("cancelled: {reason}"),
        Err(OutcomeError::Terminated { reason }) => format!("terminated: {reason}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(not_wanted.result().await), "cancelled: changed my mind");
    assert_eq!(client.nodes().await.unwrap().len(), 1);
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(process.line().await.strip_prefix("holds ").map(str::to_owned));
    }
    held.sort_unstable();
    assert_eq!(held, ["2", "3", "4"], "the instance that was cancelled before has not begun");
    cancelled.cancel("too late").await.unwrap();
    assert_eq!(reason(cancelled.result().await), "cancelled: too late");
    terminated.terminate("out of order").await.unwrap();
    assert_eq!(reason(terminated.result().await), "terminated: out of order");
    let labels = [("kind".to_owned(), "held".to_owned())].into();
    let list = client.list(&Filter { labels, ..Filter::default() }, 100).await.unwrap();
    assert_eq!(list.instances[0].status, InstanceStatus::Running);
    process.send("release");
    assert_eq!(finished.result().await.unwrap(), process.id());
    assert!(finished.cancel("too late").await.unwrap_err().is_finished());
    process.end();
    assert!(client.nodes().await.unwrap().is_empty());
    finished.delete().await.unwrap();
    assert!(finished.status().await.unwrap_err().is_not_found());
}
