//! Deaths of a process between two statements of its writer, one run for each. By default some of these moments are tried;
//! `CRASH_EVERY=1`, as in `.ci/run`, tries all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::check;
use crate::ledger::SharedFolder;
use crate::process::Process;

/// One order of each kind: approved and refunded, with an invoice, with a race, in several parcels and with a retry.
const ORDERS: u32 = 4;
/// The number of moments that are tried at once.
const AT_ONCE: u32 = 8;
/// One moment of so many is tried. Each kind of statement occurs several times in a run, in each place of a group.
const EVERY: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn orders_survive_a_death_at_any_statement() {
    let every = std::env::var("CRASH_EVERY").map_or(EVERY, |every| every.parse().unwrap());
    let next = Arc::new(AtomicU32::new(1));
    let tries = (0..AT_ONCE).map(|_| {
        let next = next.clone();
        tokio::spawn(async move { while survives_death_at(next.fetch_add(every, Ordering::Relaxed)).await {} })
    });
    for moments in tries.collect::<Vec<_>>() {
        moments.await.unwrap();
    }
    let last = next.load(Ordering::Relaxed) - AT_ONCE * every - 1;
    println!("one of {every} moments up to the {last}th; `CRASH_EVERY=1` tries all");
    assert!(last > 100, "{last}");
}

/// Lets a process die at this moment, and the next one finish its orders. Returns false if the process ended before.
async fn survives_death_at(moment: u32) -> bool {
    let folder = SharedFolder::new();
    // Every other time a client has the file open, so that SQLite's shared memory outlives the process.
    let observer = moment.is_multiple_of(2).then(|| folder.client());
    let mut child = Process::spawn_with("orders", folder.path(), ORDERS, &[("DIES_AT", moment.to_string())]);
    // The moment may also be during the shutdown.
    let done = child.is_done().await;
    let died = !child.shut_down().success();
    assert!(done || died);
    if died {
        let mut next = Process::spawn("orders", folder.path(), ORDERS);
        next.expect("done").await;
        next.end();
    }
    drop(observer);
    check::check_orders(&folder, ORDERS).await;
    died
}
