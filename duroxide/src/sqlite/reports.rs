//! The reports of the nodes of this process, as far as they are written.
//!
//! A report is written only if it has changed, so the renewals of an idle node write nothing. And it is written only if no
//! earlier report is on its way: while another program has locked the database, one renewal may wait for the lock, and
//! those that follow do not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::id::{Epoch, NodeId};
use crate::provider::{Lease, NodeReport};

/// The last reports, by node.
#[derive(Default)]
pub(super) struct Reports {
    /// A std mutex: held briefly, never across an await.
    nodes: Mutex<HashMap<NodeId, Reported>>,
}

struct Reported {
    /// The membership: each one has a row of its own.
    epoch: Epoch,
    /// The report in the row. A new row has the empty one.
    written: NodeReport,
    /// Alive while a write is on its way.
    writing: Weak<()>,
}

/// A report that is to be written. The writer drops it.
pub(super) struct Writing(#[expect(dead_code, reason = "its drop is the end of the write")] Arc<()>);

impl Reports {
    /// Returns a token for the write of a report, unless it is written already, an earlier one is on its way, or the node has
    /// joined again since.
    pub(super) fn begin(&self, lease: &Lease, report: &NodeReport) -> Option<Writing> {
        let mut nodes = self.lock();
        let new = || Reported { epoch: lease.epoch, written: NodeReport::default(), writing: Weak::new() };
        let reported = nodes.entry(lease.node).or_insert_with(new);
        if reported.epoch < lease.epoch {
            *reported = new();
        }
        let is_lost = reported.epoch > lease.epoch;
        if is_lost || reported.written == *report || reported.writing.strong_count() > 0 {
            return None;
        }
        let token = Arc::new(());
        reported.writing = Arc::downgrade(&token);
        Some(Writing(token))
    }

    /// Notes that a report is in the row of the node.
    pub(super) fn written(&self, lease: &Lease, report: &NodeReport) {
        if let Some(reported) = self.lock().get_mut(&lease.node).filter(|reported| reported.epoch == lease.epoch) {
            reported.written.clone_from(report);
            // The writer drops its token after its answer.
            reported.writing = Weak::new();
        }
    }

    /// Forgets a node that leaves.
    pub(super) fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Reported>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_written_once_and_one_at_a_time() {
        let reports = Reports::default();
        let first = Lease { node: NodeId::new(), epoch: Epoch(1) };
        let report = |live| NodeReport { live, ..NodeReport::default() };
        assert!(reports.begin(&first, &report(0)).is_none(), "a new row has the empty report");
        let writing = reports.begin(&first, &report(1)).expect("it has changed");
        assert!(reports.begin(&first, &report(2)).is_none(), "the first one is on its way");
        drop(writing);
        let writing = reports.begin(&first, &report(1)).expect("its write has failed");
        reports.written(&first, &report(1));
        assert!(reports.begin(&first, &report(1)).is_none());
        assert!(reports.begin(&first, &report(0)).is_some(), "although the token is dropped after the answer");
        drop(writing);
        let second = Lease { epoch: Epoch(2), ..first };
        assert!(reports.begin(&second, &report(0)).is_none(), "it has a new row");
        let writing = reports.begin(&second, &report(1)).expect("it has changed");
        // A renewal of the earlier membership is still on its way.
        reports.written(&first, &report(1));
        assert!(reports.begin(&first, &report(3)).is_none());
        drop(writing);
        assert!(reports.begin(&second, &report(1)).is_some());
        reports.forget(second.node);
        assert!(reports.begin(&second, &report(0)).is_none());
    }
}
