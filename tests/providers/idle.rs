//! The cost of an idle provider, and of many writes at once.

use std::sync::Arc;
use std::time::Duration;

use duroxide::provider::Provider;
use tokio::time::timeout;

use crate::store::{Store, holds, node, start, want};

#[tokio::test]
async fn an_idle_provider_issues_no_statement() {
    let store = Store::new();
    let provider = store.open();
    let lease = provider.join(&node()).await.expect("join");
    let starts = (0..1000).map(|n| start(&format!("i{n}"), Some(lease))).collect();
    provider.submit(starts).await.expect("start");
    provider.acquire(&lease, want()).await.expect("acquire");
    let mut work = provider.wakeups().subscribe();
    // The only later statement is a checkpoint, once the writer has been idle for a moment.
    let quiet = timeout(Duration::from_secs(1), work.changed()).await;
    let before = provider.stats();
    assert!(quiet.is_err() && timeout(Duration::from_secs(2), work.changed()).await.is_err(), "no signal was given");
    assert_eq!(provider.stats(), before);
    // Requests for work without mail, and renewals, write nothing.
    assert!(provider.acquire(&lease, want()).await.expect("acquire").instances.is_empty());
    assert!(holds(&provider, &lease).await);
    assert_eq!(provider.stats().write_transactions, before.write_transactions);
}

#[tokio::test]
async fn writes_that_wait_together_are_one_transaction() {
    let store = Store::new();
    let provider = Arc::new(store.open());
    // While the file is locked, all starts gather behind the first transaction.
    let third = store.raw();
    third.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let starts = (0..200).map(|n| {
        let provider = provider.clone();
        tokio::spawn(async move { provider.submit(vec![start(&format!("i{n}"), None)]).await })
    });
    let starts: Vec<_> = starts.collect();
    // Each task submits its start in its first step.
    tokio::task::yield_now().await;
    third.execute_batch("ROLLBACK").expect("unlock");
    for start in starts {
        start.await.expect("task").expect("submit").remove(0).expect("start");
    }
    let written = provider.stats().write_transactions;
    assert!(written <= 5, "200 starts in {written} transactions");
}
