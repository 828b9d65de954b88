//! Mixed load: two processes work on the orders of this process, and one of them is killed every few seconds. All
//! acknowledged orders end, and no resource grows. `SOAK_SECONDS` sets the duration; `.ci/run` takes longer.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use duroxide::prelude::*;
use duroxide::provider::Filter;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::check;
use crate::ledger::SharedFolder;
use crate::orders::{Approval, Order, OrderError, process_order};
use crate::process::Process;
use support::random::Random;

/// The number of orders in flight at any time.
const AT_ONCE: usize = 24;
/// The retention of finished instances: short, so that rows that are kept too long show as growth; but longer than the
/// time after which a client finds an end whose notice was lost with the killed process.
const KEPT: Duration = Duration::from_secs(8);

/// A figure that must not grow: its name, and the variation that is allowed in addition to a tenth.
type Figure = (&'static str, u64);
/// The variation of the database, in addition to a tenth: partly filled pages, and rows that are left to the next removal.
const PAGES: u64 = 2 << 20;
/// The log grows up to the limit of the library before it is cut.
const LOG: Figure = ("log KiB", 16 << 10);
const MEMORY: [Figure; 2] = [("client RSS KiB", 6144), ("node RSS KiB", 6144)];
const HANDLES: [Figure; 2] = [("client handles", 4), ("node handles", 8)];
/// The activities of all orders in flight may block at the same time.
const THREADS: [Figure; 2] = [("client threads", 2), ("node threads", AT_ONCE as u64)];
/// All orders in flight may end between two samples.
const TASKS: Figure = ("client tasks", AT_ONCE as u64);

/// The second quarter ends after the retention time, when the sizes have levelled off.
const SECONDS: u64 = 20;

fn seconds() -> u64 {
    std::env::var("SOAK_SECONDS").map_or(SECONDS, |seconds| seconds.parse().unwrap())
}

/// Runs in a process of its own: the files and threads of other tests would count as those of the client.
#[test]
fn no_resource_grows_under_load_and_kills() {
    if std::env::var_os("SOAK_ALONE").is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(soak());
    }
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "soak::no_resource_grows_under_load_and_kills", "--nocapture"]).env("SOAK_ALONE", "1");
    let output = alone.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn soak() {
    let folder = SharedFolder::new();
    let client = folder.client();
    let mut random = Random::seeded(29);
    let mut survivor = Process::spawn("serve", folder.path(), 0);
    let mut victim = Process::spawn("serve", folder.path(), 0);
    let mut orders = JoinSet::new();
    let (mut started, mut kills) = (0, 0);
    let mut samples = Samples::default();
    let mut kept = Kept::default();
    let empty = used_bytes(&folder.database());
    let end = Instant::now() + Duration::from_secs(seconds());
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_kill = 3;
    for tick in 0.. {
        loop {
            while orders.len() < AT_ONCE {
                orders.spawn(run_order(client.clone(), started));
                started += 1;
            }
            tokio::select! {
                biased;
                _ = second.tick() => break,
                done = orders.join_next() => done.unwrap().unwrap(),
            }
        }
        if Instant::now() >= end {
            break;
        }
        if tick == next_kill {
            std::mem::replace(&mut victim, Process::spawn("serve", folder.path(), 0)).kill();
            kills += 1;
            next_kill += 2 + random.below(4);
        }
        survivor.discard_lines();
        victim.discard_lines();
        let kept_orders = kept.at(Instant::now(), started);
        client.prune(&Filter::default(), client.now() - KEPT).await.unwrap();
        samples.database.push((kept_orders, used_bytes(&folder.database()) - empty));
        samples.take(&folder, survivor.id(), tick, started);
    }
    while let Some(done) = orders.join_next().await {
        done.unwrap();
    }
    victim.end();
    survivor.end();
    client.prune(&Filter::default(), client.now() + days(1)).await.unwrap();
    assert!(client.list(&Filter::default(), 10).await.unwrap().instances.is_empty());
    drop(client);
    check::assert_no_remains(&folder);
    println!("{started} orders, {kills} kills");
    samples.assert_no_growth();
}

/// Runs one order to its end; some are terminated on the way.
async fn run_order(client: Client, number: u32) {
    let handle = process_order::start(&client, Order::id(number), Order::new(number)).await.unwrap();
    let is_terminated = number % 13 == 5;
    if Order::needs_approval(number) {
        handle.raise(Approval { number }).await.unwrap();
    } else if is_terminated && let Err(error) = handle.terminate("changed my mind").await {
        assert!(error.is_finished(), "{error}");
    }
    match handle.result().await {
        Ok(steps) => assert!(!Order::cannot_be_sent(number) && steps.len() >= 3, "{number}: {steps:?}"),
        Err(OutcomeError::Failed(OrderError::NotSent(_))) => assert!(Order::cannot_be_sent(number), "{number}"),
        Err(OutcomeError::Terminated { .. }) => assert!(is_terminated, "{number}"),
        Err(error) => panic!("order {number}: {error:?}"),
    }
}

/// The values, second by second.
#[derive(Default)]
struct Samples {
    figures: HashMap<Figure, Vec<u64>>,
    /// The numbers of kept orders, and the bytes of their rows. The number follows the rate of the last seconds, which
    /// varies with the machine; the rows of one order do not.
    database: Vec<(u64, u64)>,
}

impl Samples {
    fn take(&mut self, folder: &SharedFolder, node: u32, tick: u64, started: u32) {
        let log = std::fs::metadata(format!("{}-wal", folder.database().display()));
        self.note(LOG, log.map_or(0, |file| file.len() / 1024));
        for (n, process) in [std::process::id(), node].into_iter().enumerate() {
            self.note(MEMORY[n], status(process, "VmRSS:"));
            self.note(THREADS[n], status(process, "Threads:"));
            let handles = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
            self.note(HANDLES[n], handles as u64);
        }
        self.note(TASKS, tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64);
        if tick.is_multiple_of(10) {
            println!("{tick} s, {started} orders: {}", self.of_all(|values| *values.last().unwrap()));
        }
    }

    fn note(&mut self, figure: Figure, value: u64) {
        self.figures.entry(figure).or_default().push(value);
    }

    fn of_all(&self, of: impl Fn(&[u64]) -> u64) -> String {
        let mut lines: Vec<_> =
            self.figures.iter().map(|((name, _), values)| format!("{name} {}", of(values))).collect();
        lines.sort_unstable();
        lines.join(", ")
    }

    /// Compares the last quarter with the second; the first is for warming up.
    fn assert_no_growth(&self) {
        let most = |values: &[u64], quarter: Range<usize>| {
            *values[values.len() * quarter.start / 4..values.len() * quarter.end / 4].iter().max().unwrap()
        };
        println!("at most, second quarter: {}", self.of_all(|values| most(values, 1..2)));
        println!("at most, last quarter: {}", self.of_all(|values| most(values, 3..4)));
        println!("kept orders and bytes of the database: {:?}", self.database);
        for ((name, varies), values) in &self.figures {
            let (before, after) = (most(values, 1..2), most(values, 3..4));
            assert!(after <= before + before / 10 + varies, "{name} has grown from {before} to {after}");
        }
        let quarter = |n: usize| &self.database[self.database.len() * n / 4..self.database.len() * (n + 1) / 4];
        let per_order = quarter(1).iter().map(|(orders, bytes)| bytes / orders).max().unwrap();
        for &(orders, bytes) in quarter(3) {
            let expected = orders * (per_order + per_order / 10) + PAGES;
            assert!(bytes <= expected, "{orders} orders use {bytes} bytes, and used {per_order} each before");
        }
    }
}

/// The numbers of started orders, second by second.
#[derive(Default)]
struct Kept(Vec<(Instant, u32)>);

impl Kept {
    /// Returns an upper bound of the number of orders that are in flight or have ended within the retention time.
    fn at(&mut self, now: Instant, started: u32) -> u64 {
        self.0.push((now, started));
        let before = self.0.iter().rev().find(|(at, _)| now - *at >= KEPT).map_or(0, |(_, started)| *started);
        u64::from(started - before).saturating_add(AT_ONCE as u64).min(started.into())
    }
}

/// Returns the size of the pages in use, without the rows that are kept for an hour: ids of messages and of commits. These
/// level off after that hour, which is longer than this test.
fn used_bytes(database: &Path) -> u64 {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    let bytes = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name NOT IN
        (SELECT name FROM sqlite_schema WHERE tbl_name = 'duroxide_dedup')";
    connection.query_row(bytes, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

/// Returns a number of the process's status on Linux, and zero elsewhere.
fn status(process: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()).map_or(0, |number| number.parse().unwrap())
}
