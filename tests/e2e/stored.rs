//! Whatever is stored is read, or refused with an error. `fuzz/` looks for more than this finds every day.

use std::path::Path;

use duroxide::RetryPolicy;
use duroxide::testing::check_history;
use proptest::prelude::*;
use support::edits::damaged;
use support::stored::{self, registry};

/// The texts that the fuzzer begins with.
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

/// A policy says what counts, whatever was stored as its factor.
#[test]
fn stored_factor_below_one_counts_as_one() {
    let read = |factor: &str| serde_json::from_str::<RetryPolicy>(&format!(r#"{{"backoff":{factor}}}"#)).unwrap();
    assert_eq!([read("0.0").backoff, read("-3").backoff, read("1.5").backoff], [1.0, 1.0, 1.5]);
}

/// So that the corpus does not become a collection of what is refused at once.
#[test]
fn corpus_histories_replay() {
    let texts = corpus("history");
    let events = texts.iter().map(|text| stored::events(text).unwrap());
    for events in events {
        assert_eq!(check_history(&registry(), &events), Ok(()));
    }
}
