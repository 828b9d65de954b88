//! A process that dies between any two statements of its writer, one moment after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::check;
use crate::ledger::Place;
use crate::process::Process;

/// One of each kind: approved and refunded, with an invoice, with a race, in several parcels and with a retry.
const ORDERS: u32 = 4;
/// How many moments are tried at once.
const AT_ONCE: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn orders_survive_a_death_at_any_statement() {
    let next = Arc::new(AtomicU32::new(1));
    let tries = (0..AT_ONCE).map(|_| {
        let next = next.clone();
        tokio::spawn(async move { while dies_and_goes_on(next.fetch_add(1, Ordering::Relaxed)).await {} })
    });
    for moments in tries.collect::<Vec<_>>() {
        moments.await.unwrap();
    }
    let moments = next.load(Ordering::Relaxed) - AT_ONCE - 1;
    println!("{moments} moments");
    assert!(moments > 100, "{moments}");
}

/// Whether there was such a moment.
async fn dies_and_goes_on(moment: u32) -> bool {
    let place = Place::new();
    // Every other time somebody else has the file open, so that its shared memory outlives the process.
    let onlooker = moment.is_multiple_of(2).then(|| place.client());
    let mut child = Process::spawn_with("orders", place.path(), ORDERS, &[("DIES_AT", moment.to_string())]);
    // It may die while it shuts down, too.
    let done = child.is_done().await;
    let died = !child.shut_down().success();
    assert!(done || died);
    if died {
        let mut next = Process::spawn("orders", place.path(), ORDERS);
        next.expect("done").await;
        next.end();
    }
    drop(onlooker);
    check::all_is_well(&place, ORDERS).await;
    died
}
