//! The outcomes of the activities in a history. Each activity of the tests that kill processes returns its idempotency key.

use std::collections::HashSet;

use duroxide::history::{EventKind, HistoryEvent, Input};

/// Checks the order of a history, and returns the idempotency keys of the activities that have an outcome, each with its
/// result unless it failed.
pub fn each_outcome_once(history: &[HistoryEvent], execution: &str) -> Vec<(String, Option<String>)> {
    let mut answered = HashSet::new();
    let mut keys = Vec::new();
    for (index, event) in history.iter().enumerate() {
        assert_eq!(event.id.0, index as u64 + 1, "event ids have no gaps");
        match &event.kind {
            EventKind::Input(input) => {
                let Some(call) = input.call() else { continue };
                assert!(answered.insert(call), "{execution}: call {call} has two outcomes");
                let scheduled =
                    |event: &HistoryEvent| matches!(&event.kind, EventKind::Decision(d) if d.call() == Some(call));
                assert!(
                    history[..index].iter().any(scheduled),
                    "{execution}: call {call} has an outcome before it was scheduled"
                );
                match input {
                    Input::ActivityCompleted { .. } => {
                        keys.push((format!("{execution}/{call}"), Some(event.payload.decode().expect("a key"))));
                    }
                    Input::ActivityFailed { .. } => keys.push((format!("{execution}/{call}"), None)),
                    _ => {}
                }
            }
            EventKind::Decision(decision) => {
                let last = index + 1 == history.len();
                assert_eq!(decision.is_terminal(), last, "{execution}: only the last event is terminal: {decision:?}");
            }
        }
    }
    keys
}
