//! Writes of a node whose rows another transaction has locked, such as one of the program.
//!
//! A node sends the writes of one moment in one call, which has one answer. So a locked one is refused, and the node sends
//! it again in a call of its own, which waits in the slow lane without trying the fast one first.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use duroxide::id::CommitId;
use duroxide::provider::CommitError;

use super::{Answer, Entry, Request};

/// The most commits that are remembered. A node that has left does not send its commits again; without its record, a
/// commit tries the fast lane first.
const MOST: usize = 10_000;

/// The commits that were refused because their rows are locked. A std mutex, held for a few instructions.
#[derive(Default)]
pub(super) struct Locked(Mutex<HashSet<CommitId>>);

impl Locked {
    /// Refuses the entries whose calls have other entries that must not wait for them. Returns the rest.
    pub(super) fn refuse(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut commits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if commits.len() > MOST {
            commits.clear();
        }
        let mut others = Vec::new();
        for entry in entries {
            match &entry.request {
                Request::Commit { commit, .. } if entry.call.is_divisible => {
                    commits.insert(commit.id);
                    entry.answer(Answer::Committed(Err(CommitError::Locked)));
                }
                _ => others.push(entry),
            }
        }
        others
    }

    /// Returns true, once, if these are the entries of a call that repeats a refused commit.
    pub(super) fn was_refused(&self, entries: &[Entry]) -> bool {
        let [Entry { request: Request::Commit { commit, .. }, .. }] = entries else { return false };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&commit.id)
    }
}
