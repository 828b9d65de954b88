//! The reports of the nodes of this process, as far as they are written.
//!
//! A report is written only if it has changed, so the renewals of an idle node write nothing. And it is written only if no
//! earlier report is on its way: while another program has locked the database, one renewal may wait for the lock, and
//! those that follow do not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::id::NodeId;
use crate::provider::NodeReport;

/// The last reports, by node.
#[derive(Default)]
pub(super) struct Reports {
    /// A std mutex: held briefly, never across an await.
    nodes: Mutex<HashMap<NodeId, Reported>>,
}

#[derive(Default)]
struct Reported {
    /// The report in the row of the node. A new row has the empty one.
    written: NodeReport,
    /// Alive while a write is on its way.
    writing: Weak<()>,
}

/// A report that is to be written. The writer drops it.
pub(super) struct Writing(#[expect(dead_code, reason = "its drop is the end of the write")] Arc<()>);

impl Reports {
    /// Returns a token for the write of a report, unless it is written already, or an earlier one is on its way.
    pub(super) fn begin(&self, node: NodeId, report: &NodeReport) -> Option<Writing> {
        let mut nodes = self.lock();
        let reported = nodes.entry(node).or_default();
        if reported.written == *report || reported.writing.strong_count() > 0 {
            return None;
        }
        let token = Arc::new(());
        reported.writing = Arc::downgrade(&token);
        Some(Writing(token))
    }

    /// Notes that a report is in the row of the node.
    pub(super) fn written(&self, node: NodeId, report: &NodeReport) {
        if let Some(reported) = self.lock().get_mut(&node) {
            reported.written.clone_from(report);
            // The writer drops its token after its answer.
            reported.writing = Weak::new();
        }
    }

    /// Forgets a node that has a new row, or none.
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
        let (reports, node) = (Reports::default(), NodeId::new());
        let report = |live| NodeReport { live, ..NodeReport::default() };
        assert!(reports.begin(node, &report(0)).is_none(), "a new row has the empty report");
        let writing = reports.begin(node, &report(1)).expect("it has changed");
        assert!(reports.begin(node, &report(2)).is_none(), "the first one is on its way");
        drop(writing);
        assert!(reports.begin(node, &report(1)).is_some(), "its write has failed");
        reports.written(node, &report(1));
        assert!(reports.begin(node, &report(1)).is_none());
        assert!(reports.begin(node, &report(0)).is_some());
        reports.forget(node);
        assert!(reports.begin(node, &report(0)).is_none());
    }
}
