//! What a child process does.

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
use crate::process::SAYS;

/// Nobody waits for so long in these tests.
const LONG_LEASE: Duration = Duration::from_secs(60);
/// Whoever lives looks three times in this time whether others have died.
const SHORT_LEASE: Duration = Duration::from_millis(1500);

/// Says a line to the parent, whole.
pub(crate) fn say(line: &str) {
    // The parent does not listen any more only when it has ended.
    let _ = std::io::stdout().lock().write_all(format!("{SAYS}{line}\n").as_bytes());
}

/// Not a test by itself: what a child does.
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
        // The task may have ended before.
        let _ = close.send(());
    });
    let shop = Shop { ledger: Ledger::open(&folder), released };
    let mut options = RuntimeOptions::default();
    options.max_activities = if task == "serve one at a time" { 1 } else { 8 };
    options.max_blocking_activities = 8;
    options.lease_time = if task == "serve one at a time" { SHORT_LEASE } else { LONG_LEASE };
    let provider = SqliteProvider::open_with(ledger::database(&folder), dies_at_its_moment()).unwrap();
    let builder = Runtime::builder().provider(provider).state(shop.clone()).options(options);
    let runtime = builder.start().await.unwrap();
    say("ready");
    if task == "orders" {
        let orders: u32 = std::env::var("ORDERS").unwrap().parse().unwrap();
        take_orders(&runtime.client(), &shop.ledger, &folder, 0..orders).await;
        say("done");
    }
    closed.await.unwrap();
    runtime.shutdown().await.unwrap();
}

/// With `DIES_AT` = n, the process dies in the n-th moment between two statements of the writer.
fn dies_at_its_moment() -> SqliteOptions {
    let Ok(dies_at) = std::env::var("DIES_AT") else { return SqliteOptions::new() };
    let left = AtomicI64::new(dies_at.parse().unwrap());
    SqliteOptions::new().observer(move |moment| {
        let is_between = matches!(moment, Moment::Before(_) | Moment::After("COMMIT", _));
        if is_between && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    })
}

/// Starts these orders, approves those that need it, and waits for all of them. What was acknowledged before, by this
/// process or one before it, is not asked for again.
pub(crate) async fn take_orders(client: &Client, ledger: &Ledger, folder: &Path, orders: Range<u32>) {
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
