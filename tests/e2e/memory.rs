//! Memory does not grow with finished instances. The test runs this binary again, to measure a process without other tests.

use std::process::Command;

use duroxide::clock::Clock;
use duroxide::prelude::*;
use duroxide::{Filter, RuntimeOptions};
use futures_util::FutureExt;

use crate::activities::chain;

#[event]
struct More;

#[orchestration]
async fn loops(ctx: OrchestrationContext, left: u32) -> duroxide::Result<()> {
    select! {
        More = ctx.event::<More>() => {}
        () = ctx.sleep(days(1)) => {}
    }
    if left == 0 { Ok(()) } else { loops::continue_as_new(&ctx, left - 1).await }
}

#[orchestration]
async fn waits_for_more(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.event::<More>().await;
    Ok(())
}

/// Returns the resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The child process of the test below: runs instances, and prints the resident memory after each round.
#[tokio::test]
async fn run_many_rounds() {
    let Ok(rounds) = std::env::var("ROUNDS") else { return };
    let mut options = RuntimeOptions::default();
    // Every turn replays its history.
    options.max_idle_instances = 0;
    let test = crate::builder().options(options).start().await.unwrap();
    let client = test.client();
    // An instance on another runtime that stays live.
    let other = crate::started().await;
    let lasting = waits_for_more::start(&other.client(), "lasting").await.unwrap();
    for round in 0..rounds.parse().unwrap() {
        let work = (0..100).map(|n| {
            let client = &client;
            async move {
                chain::start(client, format!("chain-{round}-{n}"), 5).await.unwrap().result().await.unwrap();
                loops::start(client, format!("loops-{round}-{n}"), 3).await.unwrap().result().await.unwrap();
                let cancelled = waits_for_more::start(client, format!("cancelled-{round}-{n}")).await.unwrap();
                cancelled.raise_named("unread", &n).await.unwrap();
                cancelled.cancel("").await.unwrap();
                cancelled.wait().await.unwrap();
            }
        });
        join_all(work).await;
        // Register waits for a result and drop them: they must not accumulate.
        for _ in 0..1000 {
            assert!(lasting.result().now_or_never().is_none());
        }
        // No event shows that the node has processed the dropped waits.
        tokio::task::yield_now().await;
        test.advance(hours(100));
        let now = test.clock().now();
        client.prune(&Filter::default(), now).await.unwrap();
        assert!(client.list(&Filter::default(), 1).await.unwrap().instances.is_empty());
        println!("resident {}", resident());
    }
}

#[test]
fn memory_does_not_grow_with_finished_instances() {
    const ROUNDS: usize = 14;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::run_many_rounds", "--nocapture"])
        .env("ROUNDS", ROUNDS.to_string())
        // One heap: the free lists of several heaps would look like growth.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    let resident: Vec<u64> = output.lines().filter_map(|l| l.strip_prefix("resident ")?.parse().ok()).collect();
    assert_eq!(resident.len(), ROUNDS, "{output}");
    // The first five rounds warm up caches. 2,700 instances with 5,400 executions follow: a trace of each of them would take
    // more than 2 MiB. The ids of their requests are remembered for five minutes, and the heap grows in steps.
    let growth = resident[ROUNDS - 1].saturating_sub(resident[4]);
    assert!(growth < 1024, "it grew by {growth} KiB: {resident:?}");
}
