//! The facts whose commits were answered, which the metrics of the nodes and clients count.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::EventId;
use crate::provider::{Commit, Submission, Then, Turn, Write};

/// The facts whose commits were answered to a process that was alive: those that its metrics must show. A commit that was
/// carried out without such an answer is missing: its process has died, or has left the commit to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered {
    /// First turns of instances.
    pub starts: u64,
    /// Ends of instances, by status.
    pub ends: BTreeMap<&'static str, u64>,
    /// Executions that continued as new.
    pub continues: u64,
    /// Turns that have suspended an instance.
    pub suspensions: u64,
    /// Attempts of activities whose outcome or retry was stored.
    pub outcomes: u64,
    /// Retries of activities.
    pub retries: u64,
}

impl Answered {
    /// Notes a write of a node that was answered as done.
    pub(super) fn commit(&mut self, commit: &Arc<Commit>) {
        match &commit.write {
            Write::Turn(turn) => self.turn(turn),
            Write::Outcome { .. } => self.outcomes += 1,
            Write::Retry { .. } => (self.outcomes, self.retries) = (self.outcomes + 1, self.retries + 1),
            Write::Park { .. } | Write::ReleaseActivity { .. } | Write::ReleaseInstance { .. } => {}
        }
    }

    /// Notes a submission that was answered as done.
    pub(super) fn submission(&mut self, submission: &Submission) {
        if let Submission::Terminate { .. } = submission.unaudited() {
            *self.ends.entry("terminated").or_default() += 1;
        }
    }

    fn turn(&mut self, turn: &Turn) {
        self.outcomes += turn.outcomes.len() as u64;
        match &turn.then {
            Then::Suspend { .. } => return self.suspensions += 1,
            Then::Finish { status } => *self.ends.entry(status.as_str()).or_default() += 1,
            Then::ContinueAsNew { .. } => self.continues += 1,
            Then::Continue => {}
        }
        if turn.after == EventId(0) && turn.execution.number == 1 {
            self.starts += 1;
        }
    }
}
