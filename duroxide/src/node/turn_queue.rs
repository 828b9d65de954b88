//! The turns that this node has begun.

use super::turn::TurnJob;

/// The turns that are to be submitted to the pool, and the number of those that are under way.
#[derive(Default)]
pub(super) struct TurnQueue {
    jobs: Vec<TurnJob>,
    under_way: usize,
    /// The number of histories that are being read: a turn follows each of them.
    histories: usize,
}

impl TurnQueue {
    /// Adds a turn of this round.
    pub(super) fn push(&mut self, job: TurnJob) {
        self.jobs.push(job);
    }

    /// Begins the turns of a round, which the caller takes out of the list.
    pub(super) fn begin(&mut self) -> &mut Vec<TurnJob> {
        self.under_way += self.jobs.len();
        &mut self.jobs
    }

    pub(super) fn turn_has_ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    pub(super) fn read_begins(&mut self) {
        self.histories += 1;
    }

    /// A history was read. It may have been requested under an earlier lease.
    pub(super) fn read_has_ended(&mut self) {
        self.histories = self.histories.saturating_sub(1);
    }

    /// Forgets the reads of a lost lease.
    pub(super) fn forget_reads(&mut self) {
        self.histories = 0;
    }

    /// Returns the number of submitted turns that have not ended.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Returns the number of turns that are under way, or will be when a history is read.
    pub(super) fn expected(&self) -> usize {
        self.under_way + self.histories
    }
}
