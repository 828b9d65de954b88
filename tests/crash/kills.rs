//! Many kills.

use std::time::Duration;

use tokio::time::timeout;

use crate::check;
use crate::ledger::Place;
use crate::process::Process;
use crate::random::Random;

const KILLS: u32 = 50;

#[tokio::test]
async fn two_hundred_orders_survive_fifty_kills() {
    let place = Place::new();
    let mut random = Random::seeded(17);
    let mut orders = 200;
    let mut kills = 0;
    while kills < KILLS {
        let mut child = Process::spawn("orders", place.path(), orders);
        if works_for_a_moment(&mut child, &mut random).await {
            child.kill();
            kills += 1;
        } else {
            // It was too fast, and gets more to do.
            child.end();
            orders += 100;
        }
    }
    let mut child = Process::spawn("orders", place.path(), orders);
    child.expect("done").await;
    child.end();
    let seen = check::all_is_well(&place, orders).await;
    println!("{orders} orders, {kills} kills, {seen:?}");
}

/// Waits until the child has done a few things, or for a moment. Whether it has something left to do.
async fn works_for_a_moment(child: &mut Process, random: &mut Random) -> bool {
    let things = async |child: &mut Process, count: u64| {
        for _ in 0..count {
            if child.line().await == "done" {
                return false;
            }
        }
        true
    };
    if random.below(3) > 0 {
        things(child, random.below(25)).await
    } else {
        let moment = Duration::from_millis(random.below(150));
        timeout(moment, things(child, u64::MAX)).await.unwrap_or(true)
    }
}
