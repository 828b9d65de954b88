//! Several processes at once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::ledger::Place;
use crate::orders::{held_order, quick_order};
use crate::process::Process;

/// Far below the five seconds after which everybody looks without having been told.
const TOLD: Duration = Duration::from_secs(1);

#[tokio::test]
async fn two_processes_share_one_file() {
    let place = Place::new();
    let client = place.client();
    let mut first = Process::spawn("serve one at a time", place.path(), 0);
    let mut second = Process::spawn("serve one at a time", place.path(), 0);
    first.expect("ready").await;
    second.expect("ready").await;
    assert_eq!(client.nodes().await.unwrap().len(), 2);
    let both = HashSet::from([first.id(), second.id()]);

    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let begun = Instant::now();
        let handle = quick_order::start(&client, format!("quick-{number}")).await.unwrap();
        assert!(both.contains(&handle.result().await.unwrap()));
        slowest = slowest.max(begun.elapsed());
    }
    println!("the slowest of 20 round trips took {slowest:?}");
    assert!(slowest < TOLD, "{slowest:?}");

    // Each process has a place for one of these: both have begun, so each has one.
    let held = [
        held_order::start(&client, "held-0", 0).await.unwrap(),
        held_order::start(&client, "held-1", 1).await.unwrap(),
    ];
    for process in [&mut first, &mut second] {
        while !process.line().await.starts_with("holds ") {}
    }
    first.kill();
    second.tell("release");
    for handle in &held {
        assert_eq!(handle.result().await.unwrap(), second.id());
    }
    assert_eq!(client.nodes().await.unwrap().len(), 1, "the dead was noticed");
    second.end();
}
