//! Activities whose code and outcome are one transaction.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::{ErrorCode, Registry, RuntimeOptions};
use duroxide_postgres::{PostgresOptions, PostgresProvider, Tx};
use support::schema::Schema;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::within::database;
use super::{process, schema};

/// Where an attempt waits, by test. It is added to when the test lets the attempt continue.
#[derive(Clone, Default)]
struct Gate(std::sync::Arc<GateState>);

struct GateState {
    reached: Semaphore,
    open: Semaphore,
    attempts: Mutex<Vec<u32>>,
}

impl Default for GateState {
    fn default() -> Self {
        Self { reached: Semaphore::new(0), open: Semaphore::new(0), attempts: Mutex::default() }
    }
}

impl Gate {
    /// Returns the gate of a test, by its table. Not a state, which every runtime of this binary would need.
    fn of(table: &str) -> Self {
        static GATES: Mutex<BTreeMap<String, Gate>> = Mutex::new(BTreeMap::new());
        GATES.lock().expect("succeeds").entry(table.to_owned()).or_default().clone()
    }

    fn attempts(&self) -> Vec<u32> {
        self.0.attempts.lock().expect("succeeds").clone()
    }
}

/// Records an effect, and then does as `how` says.
#[activity(transactional, timeout = "4s", retry(max_attempts = 2, initial_interval = "1ms"))]
async fn pg_debit(tx: &mut Tx<'_>, ctx: ActivityContext, table: String, how: String) -> duroxide::Result<u32> {
    let gate = Gate::of(&table);
    gate.0.attempts.lock().expect("succeeds").push(ctx.attempt());
    let run = gate.attempts().len();
    tx.execute(&format!("INSERT INTO {table} (n) VALUES (1)"), &[]).await?;
    match how.as_str() {
        "fails once" if run == 1 => return Err(duroxide::Error::new("declined")),
        "waits" if run == 1 => {
            gate.0.reached.add_permits(1);
            gate.0.open.acquire().await?.forget();
        }
        "collides" if run <= 2 => {
            tx.batch_execute("DO $$ BEGIN RAISE EXCEPTION 'collision' USING ERRCODE = '40001'; END $$").await?;
        }
        "hangs" => std::future::pending().await,
        "ignores an error" => drop(tx.batch_execute("SELECT 1 / 0").await),
        _ => {}
    }
    Ok(ctx.attempt())
}

#[orchestration]
pub(super) async fn pg_pays(ctx: OrchestrationContext, table: String, how: String) -> duroxide::Result<u32> {
    Ok(pg_debit::call(&ctx, table, how).await?)
}

struct Bank {
    schema: Schema,
    table: String,
    gate: Gate,
    runtime: Runtime,
    database: tokio_postgres::Client,
}

impl Bank {
    async fn open(name: &str) -> Option<Self> {
        let schema = schema(name)?;
        let runtime = process(schema.connect()).start().await.expect("succeeds");
        let database = database().await;
        database.batch_execute(&schema.within("CREATE TABLE effects (n integer)")).await.expect("create");
        let row = database.query_one("SELECT current_schema()", &[]).await.expect("schema");
        let table = format!("{}.effects", row.get::<_, String>(0));
        let gate = Gate::of(&table);
        Some(Self { schema, table, gate, runtime, database })
    }

    async fn start(&self, how: &str) -> Handle<pg_pays> {
        pg_pays::start(&self.runtime.client(), "payment", self.table.clone(), how.to_owned()).await.expect("succeeds")
    }

    async fn effects(&self) -> i64 {
        self.database.query_one("SELECT count(*) FROM effects", &[]).await.expect("count").get(0)
    }
}

async fn result(handle: &Handle<pg_pays>) -> Result<u32, String> {
    let result = timeout(Duration::from_secs(20), handle.result()).await.expect("it ends in time");
    result.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effect_and_outcome_are_committed_together() {
    let Some(bank) = Bank::open("tx_effect").await else { return };
    let handle = bank.start("works").await;
    assert_eq!(result(&handle).await, Ok(1));
    assert_eq!(bank.effects().await, 1);
    let left = "SELECT (SELECT count(*) FROM activities) + (SELECT count(*) FROM messages)";
    assert_eq!(bank.database.query_one(left, &[]).await.expect("count").get::<_, i64>(0), 0);
    bank.runtime.shutdown().await.expect("succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_attempt_is_rolled_back_and_retried() {
    let Some(bank) = Bank::open("tx_retry").await else { return };
    let handle = bank.start("fails once").await;
    assert_eq!(result(&handle).await, Ok(2));
    assert_eq!((bank.effects().await, bank.gate.attempts()), (1, vec![1, 2]));
    bank.runtime.shutdown().await.expect("succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collision_runs_again_without_counting_an_attempt() {
    let Some(bank) = Bank::open("tx_collision").await else { return };
    let handle = bank.start("collides").await;
    assert_eq!(result(&handle).await, Ok(1));
    assert_eq!((bank.effects().await, bank.gate.attempts()), (1, vec![1, 1, 1]));
    bank.runtime.shutdown().await.expect("succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempt_that_was_taken_over_cannot_commit() {
    let Some(bank) = Bank::open("tx_zombie").await else { return };
    let handle = bank.start("waits").await;
    bank.gate.0.reached.acquire().await.expect("succeeds").forget();
    // As a take-over does: the activity has another tenure, and the attempt does not know.
    bank.schema.execute("UPDATE activities SET claim = claim + 1000");
    bank.gate.0.open.add_permits(1);

    // The activity is free for the next node.
    let other = process(bank.schema.connect()).start().await.expect("succeeds");
    bank.schema.execute("UPDATE activities SET owner = NULL");
    assert_eq!(result(&handle).await, Ok(1));
    assert_eq!((bank.effects().await, bank.gate.attempts()), (1, vec![1, 1]), "one of two attempts is committed");
    other.shutdown().await.expect("succeeds");
    bank.runtime.shutdown().await.expect("succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connection_in_the_code_runs_it_again() {
    let Some(bank) = Bank::open("tx_lost").await else { return };
    let handle = bank.start("waits").await;
    bank.gate.0.reached.acquire().await.expect("succeeds").forget();
    bank.schema.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'duroxide activities' AND query LIKE '%' || current_schema() || '%' AND pid <> pg_backend_pid()",
    );
    bank.gate.0.open.add_permits(1);
    assert_eq!(result(&handle).await, Ok(1));
    assert_eq!((bank.effects().await, bank.gate.attempts()), (1, vec![1, 1]));
    bank.runtime.shutdown().await.expect("succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_that_does_not_end_is_rolled_back() {
    let Some(bank) = Bank::open("tx_hangs").await else { return };
    let handle = bank.start("hangs").await;
    let error = result(&handle).await.unwrap_err();
    assert!(error.contains("4s"), "{error}");
    assert_eq!((bank.effects().await, bank.gate.attempts()), (0, vec![1, 2]));
    bank.runtime.shutdown().await.expect("succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignored_error_of_a_statement_is_reported() {
    let Some(bank) = Bank::open("tx_ignored").await else { return };
    let handle = bank.start("ignores an error").await;
    let error = result(&handle).await.unwrap_err();
    assert!(error.contains("return its error"), "{error}");
    assert_eq!(bank.effects().await, 0);
    bank.runtime.shutdown().await.expect("succeeds");
}

#[tokio::test]
async fn runtime_without_such_transactions_does_not_start() {
    let registry = Registry::empty().with::<pg_debit>();
    let builder = Runtime::builder().provider(MemoryProvider::new()).registry(registry);
    let error = builder.start().await.err().expect("it is refused");
    assert_eq!(error.code(), ErrorCode::TransactionUnsuitable);
    assert!(error.to_string().contains("activity `pg_debit`"), "{error}");
}

/// Pays often, one after another.
#[orchestration]
async fn pg_pays_often(ctx: OrchestrationContext, table: String, calls: u32) -> duroxide::Result<u32> {
    for _ in 0..calls {
        pg_debit::call(&ctx, table.clone(), "works".to_owned()).await?;
    }
    Ok(calls)
}

/// The schema of a child process.
const CHILD: &str = "DUROXIDE_TEST_POSTGRES_CHILD";

/// The entry point of a child process, which runs a node until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process() {
    let Ok(schema) = std::env::var(CHILD) else { return };
    let options = PostgresOptions::new(support::postgres::server().expect("that of the parent")).schema(schema);
    let provider = PostgresProvider::connect_with(options).await.expect("connect");
    let _runtime = process(provider).options(short_lease()).start().await.expect("start");
    std::future::pending::<()>().await;
}

/// A process that is killed on drop, also if the test fails.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn short_lease() -> RuntimeOptions {
    RuntimeOptions::new().lease_time(Duration::from_secs(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_killed_at_any_moment_has_both_or_neither() {
    const CALLS: u32 = 400;
    let Some(schema) = schema("tx_killed") else { return };
    let client = Client::new(schema.connect());
    let database = database().await;
    database.batch_execute(&schema.within("CREATE TABLE effects (n integer)")).await.expect("create");
    let table = format!("{}.effects", schema.options().schema);
    let handle = pg_pays_often::start(&client, "payments", table.clone(), CALLS).await.expect("succeeds");
    let effects =
        async || database.query_one("SELECT count(*) FROM effects", &[]).await.expect("count").get::<_, i64>(0);
    for kill in 1..=4 {
        let child = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "transactional::child_process", "--nocapture"])
            .env("DUROXIDE_TEST_POSTGRES_URL", support::postgres::server().expect("a server"))
            .env(CHILD, schema.options().schema)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("spawn");
        let mut child = Killed(child);
        // The child commits its effects without a word to this process, so the server is asked again and again.
        let until = async { while effects().await < kill * 73 {} };
        timeout(Duration::from_secs(60), until).await.expect("the child makes progress");
        child.0.kill().expect("kill");
    }
    let runtime = process(schema.connect()).options(short_lease()).start().await.expect("succeeds");
    let paid = timeout(Duration::from_secs(60), handle.result()).await.expect("it ends in time").expect("succeeds");
    assert_eq!((paid, effects().await), (CALLS, i64::from(CALLS)), "each payment once");
    runtime.shutdown().await.expect("succeeds");
}
