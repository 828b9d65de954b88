//! The size of the write-ahead log.

use duroxide::Payload;

use crate::store::{Store, start, submit};

/// The size of the log in MiB.
fn log_size(store: &Store) -> u64 {
    std::fs::metadata(format!("{}-wal", store.path().display())).expect("log").len() >> 20
}

#[tokio::test]
async fn log_that_a_reader_has_made_grow_is_cut_after_it() {
    let store = Store::new();
    let provider = store.open();
    let reader = store.raw();
    reader.execute_batch("BEGIN; SELECT count(*) FROM duroxide_instances").expect("begin to read");
    let payload = Payload::encode(&"v".repeat(1 << 20)).expect("encode");
    for n in 0..24 {
        let mut submission = start(&n.to_string(), None);
        if let duroxide::provider::Submission::Start(start) = &mut submission {
            start.new.start.payload = payload.clone();
        }
        submit(&provider, submission).await.expect("start");
    }
    assert!(log_size(&store) >= 24, "the reader keeps the log from being moved");
    reader.execute_batch("COMMIT").expect("end");
    let begun = std::time::Instant::now();
    for n in 0.. {
        // The writer moves the log while it is idle, and starts it again with a later write.
        submit(&provider, start(&format!("later-{n}"), None)).await.expect("start");
        if log_size(&store) <= 16 {
            break;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{} MiB", log_size(&store));
    }
}
