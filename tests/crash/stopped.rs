//! Processes that are stopped: by a debugger, a paused machine, or the operating system.

use crate::child::SHORT_LEASE;
use crate::ledger::SharedFolder;
use crate::orders::{held_order, quick_order};
use crate::process::Process;

const ORDERS: u32 = 8;

/// Waits until the process runs the activities of all orders.
async fn holds_all(process: &mut Process) {
    for _ in 0..ORDERS {
        while !process.line().await.starts_with("holds ") {}
    }
}

#[tokio::test]
async fn stopped_process_is_taken_over_and_fenced() {
    let folder = SharedFolder::new();
    let client = folder.client();
    let mut handles = Vec::new();
    for number in 0..ORDERS {
        handles.push(held_order::start(&client, format!("held-{number}"), number).await.unwrap());
    }
    let mut stopped = Process::spawn("serve with a short lease", folder.path(), 0);
    holds_all(&mut stopped).await;
    stopped.stop();
    let mut other = Process::spawn("serve with a short lease", folder.path(), 0);
    holds_all(&mut other).await;
    assert_eq!(client.nodes().await.unwrap().len(), 1, "the membership of the stopped process has ended");
    // It wakes with activities that may return at once: their outcomes are refused.
    stopped.send("release");
    stopped.resume();
    other.send("release");
    for handle in handles {
        assert_eq!(handle.result().await.unwrap(), other.id());
        let outcomes = handle.history().await.unwrap().len();
        assert_eq!(outcomes, 4, "the outcome is recorded once");
    }
    other.end();
    let quick = quick_order::start(&client, "quick").await.unwrap();
    assert_eq!(quick.result().await.unwrap(), stopped.id(), "it has joined again");
    stopped.end();
}

#[tokio::test]
async fn observer_that_was_stopped_takes_over_no_live_node() {
    let folder = SharedFolder::new();
    let client = folder.client();
    let mut owner = Process::spawn("serve with a short lease", folder.path(), 0);
    owner.expect("ready").await;
    let mut handles = Vec::new();
    for number in 0..ORDERS {
        handles.push(held_order::start(&client, format!("held-{number}"), number).await.unwrap());
    }
    holds_all(&mut owner).await;
    let mut observer = Process::spawn("serve with a short lease", folder.path(), 0);
    observer.expect("ready").await;
    // As on a machine that is paused: both see that much time has passed, and the observer is the first to run.
    owner.stop();
    observer.stop();
    observer.is_silent_for(3 * SHORT_LEASE).await;
    observer.resume();
    // Enough for the first check of the observer, and shorter than its grace.
    observer.is_silent_for(SHORT_LEASE / 6).await;
    owner.resume();
    owner.send("release");
    for handle in handles {
        assert_eq!(handle.result().await.unwrap(), owner.id());
    }
    observer.end();
    owner.end();
}
