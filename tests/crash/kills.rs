//! Many kills at random moments.

use std::time::Duration;

use tokio::time::timeout;

use crate::check::{self, Seen};
use crate::ledger::SharedFolder;
use crate::process::Process;
use support::random::Random;

const KILLS: u32 = 50;

/// Returns the random numbers of the kill times. `CRASH_SEED`, a number, selects other ones.
fn random() -> Random {
    let seed = std::env::var("CRASH_SEED").map_or(17, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    Random::seeded(seed)
}

#[tokio::test]
async fn two_hundred_orders_survive_fifty_kills() {
    let folder = SharedFolder::new();
    let mut random = random();
    let mut orders = 200;
    let mut kills = 0;
    while kills < KILLS {
        let mut child = Process::spawn("orders", folder.path(), orders);
        if works_for_a_while(&mut child, &mut random).await {
            child.kill();
            kills += 1;
        } else {
            // The child has finished all orders before it was killed, so it gets more of them.
            child.end();
            orders += 100;
        }
    }
    let mut child = Process::spawn("orders", folder.path(), orders);
    child.expect("done").await;
    child.end();
    let seen = check::check_orders(&folder, orders).await;
    let Seen { events, outcomes, effects } = seen;
    println!("{orders} orders, {kills} kills, {events} events, {outcomes} outcomes of {effects} runs of activities");
}

/// Waits until the child has reported a few lines, or for a short time. Returns true if it has work left.
async fn works_for_a_while(child: &mut Process, random: &mut Random) -> bool {
    let lines = async |child: &mut Process, count: u64| {
        for _ in 0..count {
            if child.line().await == "done" {
                return false;
            }
        }
        true
    };
    if random.below(3) > 0 {
        lines(child, random.below(20)).await
    } else {
        let moment = Duration::from_millis(random.below(120));
        timeout(moment, lines(child, u64::MAX)).await.unwrap_or(true)
    }
}
