//! Starts and events within a transaction of the program, on SQLite.

use std::time::Duration;

use duroxide::client::{Note, Raised, StartedWithin};
use duroxide::prelude::*;
use duroxide::provider::{AuditQuery, MemoryProvider};
use duroxide::sqlite::SqliteProvider;
use duroxide::{ErrorCode, Registry};
use rusqlite::{Connection, TransactionBehavior};
use tokio::time::timeout;

#[event]
struct WithinNumber(u32);

/// Reads events up to the number 0, and returns them.
#[orchestration]
async fn within_reads(ctx: OrchestrationContext, first: u32) -> duroxide::Result<Vec<u32>> {
    let mut numbers = vec![first];
    loop {
        match ctx.event::<WithinNumber>().await {
            WithinNumber(0) => return Ok(numbers),
            WithinNumber(n) => numbers.push(n),
        }
    }
}

struct Shop {
    _folder: tempfile::TempDir,
    provider: SqliteProvider,
    database: Connection,
}

impl Shop {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let provider = SqliteProvider::open(&path).unwrap();
        let database = Connection::open(&path).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        database.execute_batch("CREATE TABLE orders (id TEXT)").unwrap();
        Self { _folder: folder, provider, database }
    }

    fn orders(&self) -> u32 {
        self.database.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap()
    }

    async fn runtime(&self) -> Runtime {
        let registry = Registry::empty().with_orchestration::<within_reads>();
        Runtime::builder().provider(self.provider.clone()).registry(registry).start().await.unwrap()
    }
}

const ORDER: &str = "INSERT INTO orders (id) VALUES ('a')";

#[tokio::test]
async fn rolled_back_transaction_leaves_no_instance() {
    let mut shop = Shop::open();
    let client = Client::new(shop.provider.clone());
    let tx = shop.database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    tx.execute(ORDER, []).unwrap();
    let started: StartedWithin<within_reads> =
        within_reads::start(&client, "order", 1).label("team", "blue").within(&tx).await.unwrap();
    drop(tx);
    let handle = started.committed();
    assert!(handle.status().await.unwrap_err().is_not_found());
    assert_eq!(shop.orders(), 0);
    let labels = "SELECT (SELECT count(*) FROM duroxide_labels) + (SELECT count(*) FROM duroxide_messages)";
    assert_eq!(shop.database.query_row(labels, [], |row| row.get::<_, u32>(0)), Ok(0));
}

#[tokio::test]
async fn committed_transaction_starts_and_delivers_in_order() {
    let mut shop = Shop::open();
    let runtime = shop.runtime().await;
    let client = runtime.client();
    let mut tx = shop.database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    tx.execute(ORDER, []).unwrap();
    let started = within_reads::start(&client, "order", 7).within(&mut tx).await.unwrap();
    for n in [5, 4] {
        let _ = started.handle().raise(WithinNumber(n)).within(&mut tx).await.unwrap();
    }
    tx.commit().unwrap();
    let handle = started.committed();
    let tx = shop.database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let raised = [3, 2, 0].map(|n| handle.raise(WithinNumber(n)));
    for raise in raised {
        let raised: Raised = raise.within(&tx).await.unwrap();
        raised.committed();
    }
    tx.commit().unwrap();
    // The signals came before the commit: the writer looks for it.
    let numbers = timeout(Duration::from_secs(3), handle.result()).await.expect("the commit is noticed").unwrap();
    assert_eq!(numbers, [7, 5, 4, 3, 2]);
    assert_eq!(shop.orders(), 1);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn audit_of_a_transaction_is_committed_with_it() {
    let mut shop = Shop::open();
    let client = Client::new(shop.provider.clone()).with_note(Note::by("ana").reason("by hand"));
    for commits in [false, true] {
        let mut tx = shop.database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let started = within_reads::start(&client, "order", 1).within(&mut tx).await.unwrap();
        let _ = started.handle().raise(WithinNumber(0)).within(&mut tx).await.unwrap();
        if commits {
            tx.commit().unwrap();
        }
        started.committed();
        let entries = client.audit(&AuditQuery::default(), 9).await.unwrap().entries;
        let texts = entries.iter().rev().map(|e| (&*e.action, e.actor.as_str(), e.reason.as_deref()));
        let expected = [("start", "ana", Some("by hand")), ("raise", "ana", Some("by hand"))];
        assert_eq!(texts.collect::<Vec<_>>(), expected[..if commits { 2 } else { 0 }]);
    }
}

#[tokio::test]
async fn taken_id_leaves_the_transaction_usable() {
    let mut shop = Shop::open();
    let client = Client::new(shop.provider.clone());
    within_reads::start(&client, "order", 1).await.unwrap();
    let tx = shop.database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let taken = within_reads::start(&client, "order", 2).within(&tx).await.unwrap_err();
    assert!(taken.is_exists(), "{taken}");
    let attached = within_reads::start(&client, "order", 2).if_exists(IfExists::Attach).within(&tx).await;
    assert!(attached.is_ok());
    let missing = within_reads::handle(&client, "none").raise(WithinNumber(1)).within(&tx).await.unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    let replaced = within_reads::start(&client, "order", 2).if_exists(IfExists::Replace).within(&tx).await;
    assert_eq!(replaced.unwrap_err().code(), ErrorCode::TransactionUnsuitable);
    tx.execute(ORDER, []).unwrap();
    tx.commit().unwrap();
    assert_eq!(shop.orders(), 1);
}

#[tokio::test]
async fn transaction_of_another_database_is_refused() {
    let mut shop = Shop::open();
    let client = Client::new(shop.provider.clone());
    let unsuitable = |error: duroxide::ClientError| error.code() == ErrorCode::TransactionUnsuitable;
    let open = within_reads::start(&client, "order", 1).within(&shop.database).await.unwrap_err();
    assert!(unsuitable(open), "without a transaction");
    let mut other = Connection::open_in_memory().unwrap();
    let tx = other.transaction().unwrap();
    assert!(unsuitable(within_reads::start(&client, "order", 1).within(&tx).await.unwrap_err()), "another file");
    let memory = Client::new(MemoryProvider::new());
    let tx = shop.database.transaction().unwrap();
    assert!(unsuitable(within_reads::start(&memory, "order", 1).within(&tx).await.unwrap_err()), "in memory");
}

#[tokio::test]
async fn other_process_notices_the_commit_without_a_signal() {
    let mut shop = Shop::open();
    let other = SqliteProvider::open(shop.database.path().unwrap()).unwrap();
    let runtime = shop.runtime().await;
    let client = Client::new(other);
    let tx = shop.database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let started = within_reads::start(&client, "order", 1).within(&tx).await.unwrap();
    let handle = started.handle().clone();
    drop(started);
    let _ = handle.raise(WithinNumber(0)).within(&tx).await.unwrap();
    tx.commit().unwrap();
    // Sooner than by the poll of five seconds.
    let numbers = timeout(Duration::from_secs(3), handle.result()).await.expect("the commit is noticed").unwrap();
    assert_eq!(numbers, [1]);
    runtime.shutdown().await.unwrap();
}
