//! Faults of the disk and of the file under a running node: they only delay, and no acknowledged write is lost.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{Provider, ProviderError, Submission};
use duroxide::sqlite::{Moment, SqliteOptions, SqliteProvider};
use duroxide::{InstanceId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::check;
use crate::child::run_orders;
use crate::ledger::{Ledger, SharedFolder};
use crate::mount::Mount;
use crate::orders::Shop;

/// A runtime on a database, with a workload of orders.
struct Program {
    runtime: Runtime,
    provider: SqliteProvider,
    folder: SharedFolder,
    ledger: Ledger,
    /// The number of orders that were started.
    started: u32,
    orders: JoinSet<()>,
    /// The number of statements that have failed.
    failures: watch::Receiver<u32>,
}

impl Program {
    async fn start(folder: SharedFolder) -> Self {
        let (failed, failures) = watch::channel(0);
        let observer = move |moment: Moment<'_>| {
            if let Moment::After(_, false) = moment {
                failed.send_modify(|failures| *failures += 1);
            }
        };
        let options = SqliteOptions::new().busy_timeout(Duration::from_millis(20)).observer(observer);
        let provider = SqliteProvider::open_with(folder.database(), options).unwrap();
        let ledger = Ledger::open(folder.path());
        let shop = Shop { ledger: ledger.clone(), released: watch::channel(false).1 };
        let runtime = Runtime::builder().provider(provider.clone()).state(shop).start().await.unwrap();
        Self { runtime, provider, folder, ledger, started: 0, orders: JoinSet::new(), failures }
    }

    /// Starts ten more orders.
    fn start_orders(&mut self) {
        let orders = self.started..self.started + 10;
        self.started = orders.end;
        let (client, folder) = (self.runtime.client(), self.folder.path().to_owned());
        let ledger = self.ledger.clone();
        self.orders.spawn(async move { run_orders(&client, &ledger, &folder, orders).await });
    }

    /// Starts orders, and returns in the middle of them.
    async fn run_to_the_middle(&mut self) {
        let mut lines = self.ledger.lines();
        let middle = *lines.borrow_and_update() + 30;
        self.start_orders();
        tokio::select! {
            reached = lines.wait_for(|lines| *lines >= middle) => drop(reached.unwrap()),
            () = until_orders_end(&mut self.orders) => {}
        }
    }

    /// Starts orders until several statements have failed: the first orders may still fit into the log.
    async fn run_into_failures(&mut self) {
        let enough = *self.failures.borrow_and_update() + 5;
        loop {
            self.start_orders();
            tokio::select! {
                met = self.failures.wait_for(|failures| *failures >= enough) => return drop(met.unwrap()),
                () = until_orders_end(&mut self.orders) => {}
            }
        }
    }

    /// Submits a write that changes nothing.
    async fn write(&self) -> Result<(), ProviderError> {
        let (instance, time) = (InstanceId::new("unknown").unwrap(), Timestamp::from_micros(0));
        self.provider.submit(vec![Submission::Resume { instance, time }]).await.map(drop)
    }

    /// Waits until all orders have ended without further help, and checks them.
    async fn finish(mut self) {
        until_orders_end(&mut self.orders).await;
        self.runtime.shutdown().await.unwrap();
        drop(self.provider);
        check::check_orders(&self.folder, self.started).await;
    }
}

async fn until_orders_end(orders: &mut JoinSet<()>) {
    while let Some(done) = orders.join_next().await {
        done.unwrap();
    }
}

/// Fills the file system to the last byte.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut ballast = File::create(&path).unwrap();
    for size in [65536, 4096, 1] {
        while ballast.write(&vec![1; size]).is_ok() {}
    }
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_only_delays() {
    let folder = SharedFolder::new();
    let Some(_mount) = Mount::small(&folder.disk(), 8192) else { return };
    let mut program = Program::start(folder).await;
    for _ in 0..3 {
        program.run_to_the_middle().await;
        let ballast = fill(&program.folder.disk());
        program.run_into_failures().await;
        std::fs::remove_file(ballast).unwrap();
    }
    program.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_locked_by_another_connection_only_delays() {
    let mut program = Program::start(SharedFolder::new()).await;
    let other = rusqlite::Connection::open(program.folder.database()).unwrap();
    other.busy_timeout(Duration::from_secs(60)).unwrap();
    for _ in 0..3 {
        program.run_to_the_middle().await;
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        program.run_into_failures().await;
        other.execute_batch("ROLLBACK").unwrap();
    }
    program.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_while_the_file_is_moved() {
    let mut program = Program::start(SharedFolder::new()).await;
    program.run_to_the_middle().await;
    let (database, aside) = (program.folder.database(), program.folder.path().join("aside.db"));
    std::fs::rename(&database, &aside).unwrap();
    let error = program.write().await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains("was removed, moved or replaced"), "{error}");
    // An older copy is put in its folder.
    std::fs::copy(&aside, &database).unwrap();
    assert!(program.write().await.is_err());
    std::fs::rename(&aside, &database).unwrap();
    program.write().await.unwrap();
    program.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_without_the_log() {
    let mut program = Program::start(SharedFolder::new()).await;
    program.run_to_the_middle().await;
    let log = format!("{}-wal", program.folder.database().display());
    let aside = program.folder.path().join("aside.log");
    std::fs::rename(&log, &aside).unwrap();
    assert!(!program.write().await.unwrap_err().is_retryable());
    std::fs::rename(&aside, &log).unwrap();
    program.write().await.unwrap();
    program.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_names_a_read_only_folder() {
    let folder = SharedFolder::new();
    let assert_refused = || {
        let Some(_mount) = Mount::read_only(&folder.disk()) else { return };
        let error = SqliteProvider::open(folder.database()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("orders.db") && text.contains("that it and the file are writable"), "{text}");
        assert!(!error.is_retryable(), "{text}");
    };
    // Without a file.
    assert_refused();
    let provider = SqliteProvider::open(folder.database()).unwrap();
    // With a file that is open, so that it could be read.
    assert_refused();
    drop(provider);
    assert_refused();
    Program::start(folder).await.finish().await;
}
