//! The share of a node among several: it leaves new work to the other members while it is busy, and releases instances
//! that have been idle for a long time, so that the next node with time claims them. A node without others does neither.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The times at which live instances were used, and the number of other members.
#[derive(Default)]
pub(super) struct Balance {
    others: usize,
    /// The number of the last use of a live instance, at each renewal of the last minute.
    uses: VecDeque<(Instant, u64)>,
    /// The last use that was more than a minute ago.
    idle: u64,
}

impl Balance {
    /// The time without a turn after which an instance is released.
    const IDLE: Duration = Duration::from_secs(60);
    /// The most instances that are released at each renewal, so that no turn waits for them.
    pub(super) const BATCH: usize = 256;

    /// Notes a renewal, which has returned the number of other members.
    pub(super) fn renewed(&mut self, others: usize, now: Instant, last_use: u64) {
        self.others = others;
        self.uses.push_back((now, last_use));
        while let Some((_, last_use)) = self.uses.front().filter(|(at, _)| now - *at >= Self::IDLE) {
            self.idle = *last_use;
            self.uses.pop_front();
        }
    }

    /// Returns the last use up to which instances are to be released.
    pub(super) fn release_up_to(&self) -> Option<u64> {
        (self.others > 0 && self.idle > 0).then_some(self.idle)
    }

    /// Returns true if there are other members.
    pub(super) fn has_others(&self) -> bool {
        self.others > 0
    }

    /// Returns true if new work is left to other members.
    pub(super) fn is_busy(&self, has_room: bool) -> bool {
        self.others > 0 && !has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_released_a_minute_after_their_last_use() {
        let (mut balance, begun) = (Balance::default(), Instant::now());
        let mut after = |seconds, others, last_use| {
            balance.renewed(others, begun + Duration::from_secs(seconds), last_use);
            balance.release_up_to()
        };
        assert_eq!(after(0, 1, 7), None);
        assert_eq!(after(30, 1, 9), None);
        assert_eq!(after(59, 1, 9), None);
        assert_eq!(after(60, 1, 9), Some(7));
        assert_eq!(after(65, 1, 12), Some(7));
        assert_eq!(after(66, 0, 12), None, "no other member");
        assert_eq!(after(95, 1, 12), Some(9));
    }

    #[test]
    fn only_a_node_with_others_leaves_work_to_them() {
        let mut balance = Balance::default();
        assert!(!balance.is_busy(false));
        balance.renewed(1, Instant::now(), 0);
        assert!(balance.is_busy(false) && !balance.is_busy(true));
    }
}
