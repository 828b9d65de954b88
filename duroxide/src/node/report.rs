//! The report of the node, which each renewal of the lease carries.
//!
//! The heartbeat makes it on its own thread, even while the threads of the node are busy: the node only sets two numbers in
//! each round of its loop. No user code runs here, such as a clock: the lease depends on this thread. So the node notes the
//! times when it finds that code does not return.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::activities::PollView;
use super::pool::Pool;
use crate::provider::NodeReport;

/// The load of the node, as its loop last showed it.
#[derive(Default)]
pub(super) struct Load {
    live: AtomicUsize,
    attempts: AtomicUsize,
}

impl Load {
    /// Shows the numbers of live copies and of running attempts.
    pub(super) fn show(&self, live: usize, attempts: usize) {
        // Relaxed: the numbers are shown to people, each on its own.
        self.live.store(live, Ordering::Relaxed);
        self.attempts.store(attempts, Ordering::Relaxed);
    }
}

/// The parts of the node of which a report is made.
pub(super) struct Reporter {
    pub(super) load: Arc<Load>,
    pub(super) pool: Pool,
    pub(super) polls: PollView,
}

impl Reporter {
    /// Makes a report of this moment.
    pub(super) fn report(&self) -> NodeReport {
        let (waiting, turns) = self.pool.stuck_code();
        let mut report = NodeReport::new(turns.into_iter().chain(self.polls.stuck_code()));
        report.waiting_turns = waiting as u64;
        report.live = self.load.live.load(Ordering::Relaxed) as u64;
        report.attempts = self.load.attempts.load(Ordering::Relaxed) as u64;
        report
    }
}
