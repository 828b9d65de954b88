//! What costs how much.

use std::sync::Arc;
use std::time::Duration;

use duroxide::provider::{Provider, Renewal};
use tokio::time::timeout;

use crate::store::{Store, node, start, want};

#[tokio::test]
async fn an_idle_provider_issues_no_statement() {
    let store = Store::new();
    let provider = store.open();
    let lease = provider.join(&node()).await.expect("join");
    let starts = (0..1000).map(|n| start(&format!("i{n}"), Some(lease))).collect();
    provider.submit(starts).await.expect("start");
    let acquired = provider.acquire(&lease, want()).await.expect("acquire");
    let mut work = provider.wakeups().subscribe();
    // The log is moved once the writer has been idle for a moment: the only thing that follows a write by itself.
    let quiet = timeout(Duration::from_secs(1), work.changed()).await;
    let before = provider.stats();
    assert!(quiet.is_err() && timeout(Duration::from_secs(2), work.changed()).await.is_err(), "nobody was woken");
    assert_eq!(provider.stats(), before);
    // Asking and renewing write nothing.
    let again = duroxide::provider::Want { cursor: acquired.cursor, ..want() };
    assert!(provider.acquire(&lease, again).await.expect("acquire").instances.is_empty());
    assert_eq!(provider.renew(&lease).await.expect("renew"), Renewal::Held { cancelled: Vec::new() });
    assert_eq!(provider.stats().write_transactions, before.write_transactions);
}

#[tokio::test]
async fn what_waits_together_is_written_together() {
    let store = Store::new();
    let provider = Arc::new(store.open());
    // While the file is locked, everything gathers behind the first transaction.
    let third = store.raw();
    third.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let starts = (0..200).map(|n| {
        let provider = provider.clone();
        tokio::spawn(async move { provider.submit(vec![start(&format!("i{n}"), None)]).await })
    });
    let starts: Vec<_> = starts.collect();
    tokio::task::yield_now().await;
    third.execute_batch("ROLLBACK").expect("unlock");
    for start in starts {
        start.await.expect("task").expect("submit").remove(0).expect("start");
    }
    let written = provider.stats().write_transactions;
    assert!(written <= 5, "200 starts in {written} transactions");
}
