//! Faults around the provider: a locked file, a full disk, damaged rows.

use std::time::Duration;

use duroxide::Payload;
use duroxide::provider::{DAMAGED, Provider};
use duroxide::sqlite::SqliteOptions;

use crate::store::{Store, id, message, node, send, start, submit, want};

#[tokio::test]
async fn a_locked_file_is_a_retryable_error() {
    let store = Store::new();
    let provider = store.open_with(SqliteOptions::new().busy_timeout(Duration::from_millis(20)));
    let third = store.raw();
    third.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let error = provider.submit(vec![start("i", None)]).await.expect_err("the file is locked");
    assert!(error.is_retryable(), "{error}");
    assert_eq!(error.operation(), "submit");
    assert!(provider.instance(&id("i")).await.expect("reads continue").is_none());
    third.execute_batch("ROLLBACK").expect("unlock");
    submit(&provider, start("i", None)).await.expect("the file is unlocked");
}

#[tokio::test]
async fn a_full_disk_loses_no_acknowledged_write() {
    let store = Store::new();
    let provider = store.open_with(SqliteOptions::new().max_bytes(400_000));
    submit(&provider, start("i", None)).await.expect("start");
    let large = Payload::encode(&"x".repeat(50_000)).expect("encode");
    let mut sent = 0;
    let refused = loop {
        let distinct = Payload::encode(&format!("{sent}{large:?}{}", "y".repeat(50_000))).expect("encode");
        match provider.submit(vec![send("i", distinct)]).await {
            Ok(results) => match &results[0] {
                Ok(_) => sent += 1,
                Err(error) => break error.to_string(),
            },
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                break error.to_string();
            }
        }
        assert!(sent < 100, "the disk never fills");
    };
    assert!(refused.contains("full"), "{refused}");
    assert!(sent > 0);
    drop(provider);
    let provider = store.open();
    let lease = provider.join(&node()).await.expect("join");
    let acquired = provider.acquire(&lease, want()).await.expect("acquire").instances;
    assert_eq!(acquired[0].messages.len(), sent + 1);
    submit(&provider, send("i", large)).await.expect("the disk has space again");
}

#[tokio::test]
async fn a_full_disk_answers_each_entry_of_a_batch() {
    let store = Store::new();
    let provider = store.open_with(SqliteOptions::new().max_bytes(400_000));
    submit(&provider, start("i", None)).await.expect("start");
    let huge = Payload::encode(&"x".repeat(1_000_000)).expect("encode");
    let answered = provider.submit(vec![start("a", None), send("i", huge), start("b", None)]).await;
    if let Ok(results) = answered {
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }
    assert!(provider.instance(&id("i")).await.expect("read").is_some());
}

#[tokio::test]
async fn a_value_of_a_newer_format_makes_its_row_unreadable() {
    let store = Store::new();
    let provider = store.open();
    for name in ["newer", "known"] {
        submit(&provider, start(name, None)).await.expect("start");
        let large = Payload::encode(&"x".repeat(5_000)).expect("encode");
        submit(&provider, send(name, large)).await.expect("send");
    }
    let newer = "UPDATE duroxide_payloads SET format = 8
        WHERE instance = (SELECT seq FROM duroxide_instances WHERE id = 'newer')";
    store.raw().execute_batch(newer).expect("update");
    let lease = provider.join(&node()).await.expect("join");
    let mut acquired = provider.acquire(&lease, want()).await.expect("acquire").instances;
    acquired.sort_by(|a, b| a.execution.cmp(&b.execution));
    let formats: Vec<_> =
        acquired.iter().map(|i| (i.execution.instance.as_str(), i.messages.iter().map(|m| m.format).max())).collect();
    assert_eq!(formats, [("known", Some(message(Payload::NULL).format)), ("newer", Some(8))]);
}

#[tokio::test]
async fn a_damaged_row_concerns_only_its_instance() {
    let store = Store::new();
    let provider = store.open();
    for name in ["bad", "good"] {
        submit(&provider, start(name, None)).await.expect("start");
    }
    let damage = "UPDATE duroxide_messages SET payload_ref = 17
        WHERE instance = (SELECT seq FROM duroxide_instances WHERE id = 'bad')";
    store.raw().execute(damage, []).expect("update");
    let lease = provider.join(&node()).await.expect("join");
    let mut acquired = provider.acquire(&lease, want()).await.expect("acquire").instances;
    acquired.sort_by(|a, b| a.execution.cmp(&b.execution));
    let formats: Vec<_> = acquired.iter().map(|instance| instance.messages[0].format).collect();
    assert_eq!(formats, [DAMAGED, message(Payload::NULL).format]);
}
