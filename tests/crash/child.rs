//! The child process: runs a node, and serves one of several tasks.

use std::io::{BufRead, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use duroxide::RuntimeOptions;
use duroxide::prelude::*;
use duroxide::sqlite::{Moment, SqliteOptions, SqliteProvider};
use tokio::sync::{oneshot, watch};

use crate::ledger::{self, Ledger};
use crate::orders::{Approval, Order, OrderError, Shop, process_order};
use crate::process::PREFIX;

/// Longer than any of these tests: no lease expires.
const LONG_LEASE: Duration = Duration::from_secs(60);
/// A surviving node checks three times in this time whether others have died.
pub(crate) const SHORT_LEASE: Duration = Duration::from_millis(1500);

/// Sends a line to the parent, in one write.
pub(crate) fn report(line: &str) {
    // It fails only if the parent has ended.
    let _ = std::io::stdout().lock().write_all(format!("{PREFIX}{line}\n").as_bytes());
}

/// The entry point of child processes; without `TASK` it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_task() {
    let Ok(task) = std::env::var("TASK") else { return };
    let folder = PathBuf::from(std::env::var("FOLDER").unwrap());
    let (release, released) = watch::channel(false);
    let (close, closed) = oneshot::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            assert_eq!(line, "release");
            release.send_replace(true);
        }
        // It fails if the task has already ended.
        let _ = close.send(());
    });
    let shop = Shop { ledger: Ledger::open(&folder), released };
    let mut options = RuntimeOptions::default();
    options.max_activities = if task == "serve one at a time" { 1 } else { 8 };
    options.max_blocking_activities = 8;
    let has_short_lease = matches!(task.as_str(), "serve one at a time" | "serve with a short lease");
    options.lease_time = if has_short_lease { SHORT_LEASE } else { LONG_LEASE };
    let provider = SqliteProvider::open_with(ledger::database(&folder), abort_at_moment()).unwrap();
    let builder = Runtime::builder().provider(provider).state(shop.clone()).options(options);
    let runtime = builder.start().await.unwrap();
    report("ready");
    if task == "orders" {
        let orders: u32 = std::env::var("ORDERS").unwrap().parse().unwrap();
        run_orders(&runtime.client(), &shop.ledger, &folder, 0..orders).await;
        report("done");
    }
    closed.await.unwrap();
    runtime.shutdown().await.unwrap();
}

/// With `DIES_AT` = n, the process aborts at the n-th moment between two statements of the writer.
fn abort_at_moment() -> SqliteOptions {
    let Ok(dies_at) = std::env::var("DIES_AT") else { return SqliteOptions::new() };
    let left = AtomicI64::new(dies_at.parse().unwrap());
    SqliteOptions::new().observer(move |moment| {
        let is_between = matches!(moment, Moment::Before(_) | Moment::After("COMMIT", _));
        if is_between && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    })
}

/// Starts these orders, approves those that need it, and waits for all of them. Does not repeat requests that were
/// acknowledged to this process or to an earlier one.
pub(crate) async fn run_orders(client: &Client, ledger: &Ledger, folder: &Path, orders: Range<u32>) {
    let known = ledger::read(folder);
    let known = |kind: &str, number: u32| known.iter().find(|line| line[0] == kind && line[1] == Order::id(number));
    join_all(orders.map(|number| async move {
        let id = Order::id(number);
        if known("started", number).is_none() {
            process_order::start(client, &id, Order::new(number)).if_exists(IfExists::Attach).await.unwrap();
            ledger.note(&format!("started {id}"));
        }
        let handle = process_order::handle(client, &id);
        if Order::needs_approval(number) && known("approved", number).is_none() {
            match handle.raise(Approval { number }).await {
                Ok(()) => ledger.note(&format!("approved {id}")),
                Err(error) => assert!(error.is_finished(), "{error}"),
            }
        }
        let result = match handle.result().await {
            Ok(steps) => format!("sent {}", steps.join(" ")),
            Err(OutcomeError::Failed(OrderError::NotSent(steps))) => format!("refunded {}", steps.join(" ")),
            Err(error) => panic!("{id}: {error:?}"),
        };
        let result = format!("result {id} {result}");
        match known("result", number) {
            Some(before) => assert_eq!(before.join(" "), result),
            None => ledger.note(&result),
        }
    }))
    .await;
}
