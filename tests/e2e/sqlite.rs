//! The same on SQLite: what a step costs, and what is there after a restart.

use duroxide::Registry;
use duroxide::prelude::*;
use duroxide::sqlite::SqliteProvider;

use crate::activities::{chain, double};

async fn runtime(provider: &SqliteProvider) -> Runtime {
    let registry = Registry::empty().with_activity::<double>().with_orchestration::<chain>();
    Runtime::builder().provider(provider.clone()).registry(registry).start().await.unwrap()
}

#[tokio::test]
async fn a_step_of_a_live_instance_is_one_write_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let provider = SqliteProvider::open(folder.path().join("state.db")).unwrap();
    let runtime = runtime(&provider).await;
    let before = provider.stats().write_transactions;
    let handle = chain::start(&runtime.client(), "chain", 1000).await.unwrap();
    handle.result().await.unwrap();
    let transactions = provider.stats().write_transactions - before;
    // The start, the first turn, and one for each outcome, which schedules the next step. A heartbeat may fall in between.
    assert!((1001..=1010).contains(&transactions), "{transactions} write transactions for 1,000 steps");
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let first = SqliteProvider::open(&path).unwrap();
    let runtime_1 = runtime(&first).await;
    let handle = chain::start(&runtime_1.client(), "chain", 200).await.unwrap();
    while handle.status().await.unwrap().events.0 < 100 {
        tokio::task::yield_now().await;
    }
    // As if the process had died: nothing is given back.
    drop((handle, runtime_1, first));
    let second = SqliteProvider::open(&path).unwrap();
    let runtime_2 = runtime(&second).await;
    let handle = chain::handle(&runtime_2.client(), "chain");
    handle.result().await.unwrap();
    assert_eq!(handle.history().await.unwrap().len(), 402, "each step is there once");
    runtime_2.shutdown().await.unwrap();
}
