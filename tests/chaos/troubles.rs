//! Troubles of nodes, connections and the server, in an order that the seed chooses.

use std::time::Duration;

use support::random::Random;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Options;
use crate::world::World;

/// Brings troubles for the time of the run. All nodes run, and all connections work, when it returns.
pub(crate) async fn bring(world: &World, options: &Options) {
    let begun = Instant::now();
    let end = begun + options.time;
    let note = |trouble: String| println!("{:.1} s: {trouble}", begun.elapsed().as_secs_f64());
    let random = |n: u64| Random::seeded(options.seed.wrapping_mul(1_000_003).wrapping_add(n));
    tokio::join!(
        kill_nodes(world, random(1), end, &note),
        stop_nodes(world, options.lease, random(2), end, &note),
        break_connections(world, options.lease, random(3), end, &note),
        crash_server(world, random(4), end, &note),
    );
}

/// A node is killed each second, or replaced by another process in an orderly way.
async fn kill_nodes(world: &World, mut random: Random, end: Instant, note: &impl Fn(String)) {
    while Instant::now() < end {
        sleep(Duration::from_millis(600 + random.below(800))).await;
        let node = &world.nodes[index(&mut random, world.nodes.len())];
        let skew = [0, 300, -300, 120, -60][index(&mut random, 5)];
        if random.below(6) == 0 {
            note(format!("replace node {}, process {}; clock {skew:+} s", node.number, node.id()));
            tokio::task::block_in_place(|| node.replace(skew));
        } else {
            note(format!("kill node {}, process {}; clock {skew:+} s", node.number, node.id()));
            tokio::task::block_in_place(|| node.kill(skew));
        }
    }
}

/// A node is stopped until others have taken over its work. It may be killed in that time.
async fn stop_nodes(world: &World, lease: Duration, mut random: Random, end: Instant, note: &impl Fn(String)) {
    loop {
        sleep_until(end.min(Instant::now() + Duration::from_millis(1000 + random.below(5000)))).await;
        if Instant::now() >= end {
            return;
        }
        let node = &world.nodes[index(&mut random, world.nodes.len())];
        note(format!("stop node {}, process {}", node.number, node.id()));
        node.stop();
        let time = lease.mul_f64(0.5 + random.below(150) as f64 / 100.0);
        sleep_until((Instant::now() + time).min(end)).await;
        node.resume();
        note(format!("continue node {}, process {}", node.number, node.id()));
    }
}

/// Connections of nodes and of clients are lost, or carry nothing for a time.
async fn break_connections(world: &World, lease: Duration, mut random: Random, end: Instant, note: &impl Fn(String)) {
    loop {
        sleep_until(end.min(Instant::now() + Duration::from_millis(200 + random.below(1500)))).await;
        if Instant::now() >= end {
            return;
        }
        let node = world.nodes.get(index(&mut random, world.nodes.len() + 1));
        let (proxy, name) = match node {
            Some(node) => (&node.proxy, format!("node {}", node.number)),
            None => (&world.proxy, "a client".to_owned()),
        };
        if random.below(3) > 0 {
            note(format!("break the connections of {name}"));
            proxy.drop_connections();
            continue;
        }
        note(format!("stall the connections of {name}"));
        node.into_iter().for_each(|node| node.harm());
        proxy.stall();
        let time = lease.mul_f64(random.below(130) as f64 / 100.0);
        sleep_until((Instant::now() + time).min(end)).await;
        // Another process may run now.
        node.into_iter().for_each(|node| node.harm());
        proxy.resume();
        note(format!("the connections of {name} work again"));
    }
}

async fn crash_server(world: &World, mut random: Random, end: Instant, note: &impl Fn(String)) {
    loop {
        sleep_until(end.min(Instant::now() + Duration::from_millis(5000 + random.below(35_000)))).await;
        if Instant::now() >= end {
            return;
        }
        note("crash the server".to_owned());
        tokio::task::block_in_place(|| world.cluster.crash());
        sleep(Duration::from_millis(random.below(1500))).await;
        tokio::task::block_in_place(|| world.cluster.resume());
        note("the server runs again".to_owned());
    }
}

fn index(random: &mut Random, below: usize) -> usize {
    random.below(below as u64) as usize
}
