//! Many kills.

use std::time::Duration;

use tokio::time::timeout;

use crate::check::{self, Seen};
use crate::ledger::Place;
use crate::process::Process;
use crate::random::Random;

const KILLS: u32 = 50;

/// When to kill is decided by `CRASH_SEED`, a number, where that is set: to look for more than is found every day.
fn random() -> Random {
    let seed = std::env::var("CRASH_SEED").map_or(17, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    Random::seeded(seed)
}

#[tokio::test]
async fn two_hundred_orders_survive_fifty_kills() {
    let place = Place::new();
    let mut random = random();
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
    let Seen { events, outcomes, effects } = seen;
    println!("{orders} orders, {kills} kills, {events} events, {outcomes} outcomes of {effects} runs of activities");
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
        things(child, random.below(20)).await
    } else {
        let moment = Duration::from_millis(random.below(120));
        timeout(moment, things(child, u64::MAX)).await.unwrap_or(true)
    }
}
