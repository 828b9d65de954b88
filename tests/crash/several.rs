//! Several processes at once on one file.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::ledger::SharedFolder;
use crate::orders::{held_order, quick_order};
use crate::process::Process;

/// Far below the five seconds after which a process polls without a notification.
const NOTIFIED: Duration = Duration::from_secs(1);

#[tokio::test]
async fn two_processes_share_one_file() {
    let folder = SharedFolder::new();
    let client = folder.client();
    let mut first = Process::spawn("serve one at a time", folder.path(), 0);
    let mut second = Process::spawn("serve one at a time", folder.path(), 0);
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
    assert!(slowest < NOTIFIED, "{slowest:?}");

    // Each process has one permit: when both activities have begun, each process runs one.
    let held = [
        held_order::start(&client, "held-0", 0).await.unwrap(),
        held_order::start(&client, "held-1", 1).await.unwrap(),
    ];
    for process in [&mut first, &mut second] {
        while !process.line().await.starts_with("holds ") {}
    }
    first.kill();
    second.send("release");
    for handle in &held {
        assert_eq!(handle.result().await.unwrap(), second.id());
    }
    assert_eq!(client.nodes().await.unwrap().len(), 1, "the death was noticed");
    second.end();
}
