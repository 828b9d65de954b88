//! Activities whose code and outcome are one transaction, on SQLite.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::sqlite::{SqliteProvider, Tx};
use duroxide::testing::TestRuntime;
use duroxide::{ErrorCode, Registry};
use rusqlite::Connection;
use tokio::time::timeout;

/// The number of the attempts that have run.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicU32>);

/// Records an effect, and then does as `how` says.
#[activity(transactional, timeout = "2s", retry(max_attempts = 2, initial_interval = "1ms"))]
fn lite_debit(tx: &mut Tx<'_>, ctx: ActivityContext, State(runs): State<Runs>, how: String) -> duroxide::Result<u32> {
    let run = runs.0.fetch_add(1, Ordering::Relaxed);
    tx.execute("INSERT INTO effects (n) VALUES (?1)", [run])?;
    match how.as_str() {
        "fails once" if run == 0 => return Err(duroxide::Error::new("declined")),
        "waits" if run == 0 => {
            // Asks again and again, as code that computes does.
            while !ctx.is_cancelled() {
                std::thread::yield_now();
            }
        }
        "computes" => {
            let endless = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n";
            tx.query_row(endless, [], |_| Ok(()))?;
        }
        "commits" => tx.execute_batch("COMMIT")?,
        _ => {}
    }
    Ok(ctx.attempt())
}

#[orchestration]
async fn lite_pays(ctx: OrchestrationContext, how: String) -> duroxide::Result<u32> {
    Ok(lite_debit::call(&ctx, how).await?)
}

struct Bank {
    _folder: tempfile::TempDir,
    database: Connection,
    runs: Runs,
}

fn registry() -> Registry {
    Registry::empty().with::<lite_debit>().with::<lite_pays>()
}

impl Bank {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        drop(SqliteProvider::open(&path).unwrap());
        let database = Connection::open(&path).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        database.execute_batch("CREATE TABLE effects (n INTEGER)").unwrap();
        Self { _folder: folder, database, runs: Runs::default() }
    }

    fn path(&self) -> &Path {
        Path::new(self.database.path().unwrap())
    }

    async fn runtime(&self) -> Runtime {
        let builder = Runtime::builder().sqlite(self.path()).registry(registry());
        builder.state(self.runs.clone()).start().await.unwrap()
    }

    fn effects(&self) -> u32 {
        self.database.query_row("SELECT count(*) FROM effects", [], |row| row.get(0)).unwrap()
    }

    /// Runs a payment. Returns its result, the number of effects and that of the runs.
    async fn pay(&self, how: &str) -> (Result<u32, String>, u32, u32) {
        let runtime = self.runtime().await;
        let handle = lite_pays::start(&runtime.client(), "payment", how.to_owned()).await.unwrap();
        let result = timeout(Duration::from_secs(20), handle.result()).await.expect("it ends in time");
        runtime.shutdown().await.unwrap();
        (result.map_err(|error| error.to_string()), self.effects(), self.runs.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn effect_and_outcome_are_committed_together() {
    assert_eq!(Bank::open().pay("works").await, (Ok(1), 1, 1));
}

#[tokio::test]
async fn failed_attempt_is_rolled_back_and_retried() {
    assert_eq!(Bank::open().pay("fails once").await, (Ok(2), 1, 2));
}

#[tokio::test]
async fn statement_that_does_not_end_is_stopped() {
    let (result, effects, runs) = Bank::open().pay("computes").await;
    let error = result.unwrap_err();
    assert!(error.contains("2s"), "{error}");
    assert_eq!((effects, runs), (0, 2));
}

#[tokio::test]
async fn code_that_ends_its_transaction_is_reported() {
    let (result, ..) = Bank::open().pay("commits").await;
    let error = result.unwrap_err();
    assert!(error.contains("has ended its transaction"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempt_that_has_timed_out_cannot_commit() {
    // The node ends the first attempt, whose thread still has the transaction, and so the write lock.
    assert_eq!(Bank::open().pay("waits").await, (Ok(2), 1, 2));
}

#[tokio::test]
async fn provider_without_transactions_is_refused() {
    let bank = Bank::open();
    let builder = Runtime::builder().provider(MemoryProvider::new()).registry(registry());
    let error = builder.state(bank.runs.clone()).start().await.err().expect("it is refused");
    assert_eq!(error.code(), ErrorCode::TransactionUnsuitable);
    assert!(error.to_string().contains("activity `lite_debit`"), "{error}");
}

#[tokio::test]
async fn test_runtime_names_the_mock_that_a_transaction_needs() {
    let builder = || TestRuntime::builder().registry(registry()).state(Runs::default());
    let test = builder().start().await.unwrap();
    let handle = lite_pays::start(&test.client(), "pays", "works".to_owned()).await.unwrap();
    let failed = tokio::spawn(async move { handle.result().await }).await.unwrap_err().into_panic();
    let reason = failed.downcast_ref::<String>().unwrap();
    assert!(
        ["DUR0047", "`lite_debit`", "TestRuntimeBuilder::mock"].iter().all(|word| reason.contains(word)),
        "{reason}"
    );
    let test = builder().mock::<lite_debit>(|_| Ok(7)).start().await.unwrap();
    let handle = lite_pays::start(&test.client(), "pays", "works".to_owned()).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
}
