//! The report of a node: its load, and the user code that does not return.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::shortened_to;
use crate::id::{CallId, EventId, ExecutionId};

/// The load of a node, and the code on it that has not returned for a long time. A node sends it with each renewal of its lease,
/// three times per lease time, and at once when a turn does not return.
///
/// It is for people, except for [`NodeReport::waiting_turns`]: a provider returns its sum over the other members with each
/// renewal ([`Others`](super::Others)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NodeReport {
    /// The number of instances whose function is kept in memory.
    pub live: u64,
    /// The number of turns that wait for a thread ([`RuntimeOptions::turn_threads`](crate::RuntimeOptions::turn_threads)).
    pub waiting_turns: u64,
    /// The number of attempts of activities that run.
    pub attempts: u64,
    /// The code that has not returned for a long time, the oldest first: at most [`NodeReport::STUCK`] entries.
    pub stuck: Vec<StuckCode>,
    /// The number of further entries, for which there was no room.
    pub more_stuck: u64,
}

/// A turn of an instance, or an attempt of an async activity, whose code has not returned to its thread for a long time: it
/// computes, loops or blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StuckCode {
    /// The execution.
    pub execution: ExecutionId,
    /// The name of the orchestration, or of the activity.
    pub name: String,
    /// The code that runs.
    pub code: RunningCode,
    /// The time since which it has run without a pause, by the clock of the node.
    pub since: Timestamp,
}

/// The code of a [`StuckCode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunningCode {
    /// A turn of the orchestration, reported after [`RuntimeOptions::turn_warning`](crate::RuntimeOptions::turn_warning).
    #[non_exhaustive]
    Turn {
        /// The last event before the turn. `None`: it replays the history.
        after: Option<EventId>,
        /// The place of the function in the source: file and line. At most 256 bytes.
        function: Option<String>,
        /// The place of the last durable call before it got stuck: file, line and column. At most 256 bytes.
        last_call: Option<String>,
    },
    /// An attempt of an async activity, reported after
    /// [`RuntimeOptions::activity_warning`](crate::RuntimeOptions::activity_warning). Other activities, and timers of the
    /// program, may wait for its thread.
    #[non_exhaustive]
    Attempt {
        /// The call of the activity.
        call: CallId,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
}

/// The limit of a place in the source, in bytes.
const MAX_PLACE: usize = 256;

impl NodeReport {
    /// The most entries of [`NodeReport::stuck`].
    pub const STUCK: usize = 16;

    /// Makes a report of stuck code alone, of which it keeps the oldest entries.
    pub fn new(stuck: impl IntoIterator<Item = StuckCode>) -> Self {
        let mut stuck: Vec<_> = stuck.into_iter().collect();
        stuck.sort_by(|one, other| (one.since, &one.execution).cmp(&(other.since, &other.execution)));
        let more_stuck = stuck.len().saturating_sub(Self::STUCK) as u64;
        stuck.truncate(Self::STUCK);
        Self { stuck, more_stuck, ..Self::default() }
    }

    /// Returns the JSON text, for the author of a provider.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}"))
    }

    /// Reads the JSON text, for the author of a provider. A text that cannot be read is an empty report, since it must not
    /// fail a list of nodes and the next renewal replaces it.
    pub fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl StuckCode {
    /// Makes an entry for a turn of an orchestration. Empty places are unknown.
    pub(crate) fn turn(
        execution: ExecutionId,
        name: String,
        after: Option<EventId>,
        [function, last_call]: [String; 2],
        since: Timestamp,
    ) -> Self {
        let known = |place: String| Some(shortened_to(MAX_PLACE, &place)).filter(|place| !place.is_empty());
        let code = RunningCode::Turn { after, function: known(function), last_call: known(last_call) };
        Self { execution, name, code, since }
    }

    /// Makes an entry for an attempt of an activity.
    pub fn attempt(execution: ExecutionId, name: String, (call, attempt): (CallId, u32), since: Timestamp) -> Self {
        Self { execution, name, code: RunningCode::Attempt { call, attempt }, since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Identity, InstanceId};

    #[test]
    fn report_keeps_the_oldest_entries() {
        let execution = |n: i64| {
            let instance = InstanceId::new(format!("i{n}")).expect("valid");
            ExecutionId { instance, identity: Identity::UNKNOWN, number: 1 }
        };
        let stuck = |n| StuckCode::attempt(execution(n), "a".to_owned(), (CallId(1), 1), Timestamp::from_micros(n));
        let report = NodeReport::new((0..20).rev().map(stuck));
        assert_eq!(report.stuck, (0..16).map(stuck).collect::<Vec<_>>());
        assert_eq!(report.more_stuck, 4);
        let long = || "x".repeat(1000);
        let turn =
            StuckCode::turn(execution(7), "flow".to_owned(), None, [long(), String::new()], Timestamp::default());
        let RunningCode::Turn { function: Some(function), last_call: None, .. } = &turn.code else {
            panic!("{turn:?}")
        };
        assert!(function.len() <= MAX_PLACE);
        let report = NodeReport { live: 3, ..NodeReport::new([turn.clone()]) };
        assert_eq!(NodeReport::from_json(&report.to_json()), report);
        for text in ["", "{", r#"{"live":-1}"#] {
            assert_eq!(NodeReport::from_json(text), NodeReport::default(), "{text}");
        }
        assert_eq!(NodeReport::from_json(r#"{"live":2,"of_a_later_version":1}"#).live, 2);
    }
}
