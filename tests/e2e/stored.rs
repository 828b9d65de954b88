//! Stored texts are accepted or refused with an error, even damaged ones. The targets in `fuzz/` search longer.

use std::path::Path;

use duroxide::RetryPolicy;
use duroxide::testing::check_history;
use proptest::prelude::*;
use support::edits::damaged;
use support::stored::{self, registry};

/// Returns the texts of a fuzz target's corpus.
fn corpus(target: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut texts: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    texts.sort_unstable();
    assert!(!texts.is_empty());
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stored_history_is_read_or_refused(text in damaged(corpus("history"))) {
        stored::history(&text);
    }

    #[test]
    fn any_stored_message_is_read_or_refused(text in damaged(corpus("message"))) {
        stored::message(&text);
    }
}

/// A stored policy may have a factor below one, which would shorten the pauses.
#[test]
fn stored_factor_below_one_counts_as_one() {
    let read = |factor: &str| serde_json::from_str::<RetryPolicy>(&format!(r#"{{"backoff":{factor}}}"#)).unwrap();
    assert_eq!([read("0.0").backoff, read("-3").backoff, read("1.5").backoff], [1.0, 1.0, 1.5]);
}

/// Keeps the corpus useful: a text that is refused at once exercises little code.
#[test]
fn corpus_histories_replay() {
    let texts = corpus("history");
    let events = texts.iter().map(|text| stored::events(text).unwrap());
    for events in events {
        assert_eq!(check_history(&registry(), &events), Ok(()));
    }
}
