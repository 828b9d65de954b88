//! Trouble beneath a program that runs: it delays, and nothing that was acknowledged is lost.

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
use crate::child::take_orders;
use crate::ledger::{Ledger, Place};
use crate::mount::Mount;
use crate::orders::Shop;

/// A program with a database.
struct Program {
    runtime: Runtime,
    provider: SqliteProvider,
    place: Place,
    ledger: Ledger,
    /// How many orders it was given.
    given: u32,
    orders: JoinSet<()>,
    /// How many statements have failed.
    failures: watch::Receiver<u32>,
}

impl Program {
    async fn start(place: Place) -> Self {
        let (failed, failures) = watch::channel(0);
        let observer = move |moment: Moment<'_>| {
            if let Moment::After(_, false) = moment {
                failed.send_modify(|failures| *failures += 1);
            }
        };
        let options = SqliteOptions::new().busy_timeout(Duration::from_millis(20)).observer(observer);
        let provider = SqliteProvider::open_with(place.database(), options).unwrap();
        let ledger = Ledger::open(place.path());
        let shop = Shop { ledger: ledger.clone(), released: watch::channel(false).1 };
        let runtime = Runtime::builder().provider(provider.clone()).state(shop).start().await.unwrap();
        Self { runtime, provider, place, ledger, given: 0, orders: JoinSet::new(), failures }
    }

    /// Gives it ten more orders.
    fn give_orders(&mut self) {
        let orders = self.given..self.given + 10;
        self.given = orders.end;
        let (client, folder) = (self.runtime.client(), self.place.path().to_owned());
        let ledger = self.ledger.clone();
        self.orders.spawn(async move { take_orders(&client, &ledger, &folder, orders).await });
    }

    /// Gives it orders, and returns in the middle of them.
    async fn is_in_the_middle(&mut self) {
        let mut lines = self.ledger.lines();
        let middle = *lines.borrow_and_update() + 30;
        self.give_orders();
        tokio::select! {
            reached = lines.wait_for(|lines| *lines >= middle) => drop(reached.unwrap()),
            () = orders_are_done(&mut self.orders) => {}
        }
    }

    /// Gives it orders until it has met the trouble several times: for some of them there may be room in the log.
    async fn meets_trouble(&mut self) {
        let trouble = *self.failures.borrow_and_update() + 5;
        loop {
            self.give_orders();
            tokio::select! {
                met = self.failures.wait_for(|failures| *failures >= trouble) => return drop(met.unwrap()),
                () = orders_are_done(&mut self.orders) => {}
            }
        }
    }

    /// What a write is answered that changes nothing.
    async fn write(&self) -> Result<(), ProviderError> {
        let (instance, time) = (InstanceId::new("nobody").unwrap(), Timestamp::from_micros(0));
        self.provider.submit(vec![Submission::Resume { instance, time }]).await.map(drop)
    }

    /// All orders come to their end by themselves.
    async fn goes_on(mut self) {
        orders_are_done(&mut self.orders).await;
        self.runtime.shutdown().await.unwrap();
        drop(self.provider);
        check::all_is_well(&self.place, self.given).await;
    }
}

async fn orders_are_done(orders: &mut JoinSet<()>) {
    while let Some(done) = orders.join_next().await {
        done.unwrap();
    }
}

/// Takes all the space that is left.
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
    let place = Place::new();
    let Some(_mount) = Mount::small(&place.disk(), 8192) else { return };
    let mut program = Program::start(place).await;
    for _ in 0..3 {
        program.is_in_the_middle().await;
        let ballast = fill(&program.place.disk());
        program.meets_trouble().await;
        std::fs::remove_file(ballast).unwrap();
    }
    program.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_locked_by_another_connection_only_delays() {
    let mut program = Program::start(Place::new()).await;
    let other = rusqlite::Connection::open(program.place.database()).unwrap();
    other.busy_timeout(Duration::from_secs(60)).unwrap();
    for _ in 0..3 {
        program.is_in_the_middle().await;
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        program.meets_trouble().await;
        other.execute_batch("ROLLBACK").unwrap();
    }
    program.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_while_the_file_is_moved() {
    let mut program = Program::start(Place::new()).await;
    program.is_in_the_middle().await;
    let (database, aside) = (program.place.database(), program.place.path().join("aside.db"));
    std::fs::rename(&database, &aside).unwrap();
    let error = program.write().await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains("was removed, moved or replaced"), "{error}");
    // Somebody puts an older one in its place.
    std::fs::copy(&aside, &database).unwrap();
    assert!(program.write().await.is_err());
    std::fs::rename(&aside, &database).unwrap();
    program.write().await.unwrap();
    program.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_acknowledged_without_the_log() {
    let mut program = Program::start(Place::new()).await;
    program.is_in_the_middle().await;
    let log = format!("{}-wal", program.place.database().display());
    let aside = program.place.path().join("aside.log");
    std::fs::rename(&log, &aside).unwrap();
    assert!(!program.write().await.unwrap_err().is_retryable());
    std::fs::rename(&aside, &log).unwrap();
    program.write().await.unwrap();
    program.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_names_a_read_only_folder() {
    let place = Place::new();
    let is_refused = || {
        let Some(_mount) = Mount::read_only(&place.disk()) else { return };
        let error = SqliteProvider::open(place.database()).unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("orders.db there, and can be written"), "{error}");
    };
    // There is no file yet.
    is_refused();
    let provider = SqliteProvider::open(place.database()).unwrap();
    // Somebody uses it, so that it could be read.
    is_refused();
    drop(provider);
    is_refused();
    Program::start(place).await.goes_on().await;
}
