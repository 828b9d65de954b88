//! The share of a node among several: it leaves new work to the other members while it is busy, and releases instances
//! that have been idle for a minute, so that the next node with time claims them. While it is busier than the others, it
//! also releases some that it has used more recently. A node without others does none of this.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::provider::Others;

/// The times at which live instances were used, and the other members.
#[derive(Default)]
pub(super) struct Balance {
    others: Others,
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

    /// Notes a renewal, which has returned the other members.
    pub(super) fn renewed(&mut self, others: Others, now: Instant, last_use: u64) {
        self.others = others;
        self.uses.push_back((now, last_use));
        while let Some((_, last_use)) = self.uses.front().filter(|(at, _)| now - *at >= Self::IDLE) {
            self.idle = *last_use;
            self.uses.pop_front();
        }
    }

    /// Returns the last use up to which instances are to be released.
    pub(super) fn release_up_to(&self) -> Option<u64> {
        (self.has_others() && self.idle > 0).then_some(self.idle)
    }

    /// Returns true if there are other members.
    pub(super) fn has_others(&self) -> bool {
        self.others.nodes > 0
    }

    /// Returns how many of the live instances a busy node releases, if this many turns wait for a thread here: a twentieth
    /// if they are more than 1.3 times the mean of the node and its peers.
    ///
    /// An instance that is released moves with its next message or timer, so a share that is released in vain costs a
    /// replay for each instance. The limit and the small steps keep nodes of about the same load from exchanging theirs.
    pub(super) fn share_to_shed(&self, waiting_turns: usize, live: usize) -> usize {
        let (own, nodes) = (waiting_turns as u64, self.others.peers as u64 + 1);
        let all = own.saturating_add(self.others.waiting_turns);
        let is_over = own.saturating_mul(nodes).saturating_mul(10) > all.saturating_mul(13);
        if is_over && self.others.peers > 0 { live.div_ceil(20).min(Self::BATCH) } else { 0 }
    }

    /// Returns true if new work is left to other members.
    pub(super) fn is_busy(&self, has_room: bool) -> bool {
        self.has_others() && !has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_released_a_minute_after_their_last_use() {
        let (mut balance, begun) = (Balance::default(), Instant::now());
        let mut after = |seconds, nodes, last_use| {
            balance.renewed(Others { nodes, ..Others::default() }, begun + Duration::from_secs(seconds), last_use);
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
        balance.renewed(Others { nodes: 1, ..Others::default() }, Instant::now(), 0);
        assert!(balance.is_busy(false) && !balance.is_busy(true));
    }

    #[test]
    fn only_a_node_above_the_mean_sheds_a_small_share() {
        let shed = |peers, waiting_turns, own, live| {
            let mut balance = Balance::default();
            balance.renewed(Others { nodes: 4, peers, waiting_turns }, Instant::now(), 0);
            balance.share_to_shed(own, live)
        };
        assert_eq!(shed(1, 0, 500, 1_000), 50);
        assert_eq!(shed(1, 500, 500, 1_000), 0, "both are equally busy");
        // The mean of 130 and 70 is 100.
        assert_eq!(shed(1, 70, 130, 1_000), 0);
        assert_eq!(shed(1, 69, 130, 1_000), 50);
        assert_eq!(shed(3, 0, 500, 1_000_000), Balance::BATCH);
        assert_eq!(shed(1, 0, 500, 7), 1);
        assert_eq!(shed(0, 0, 500, 1_000), 0, "no other member with its build");
        assert_eq!(shed(1, 0, 0, 1_000), 0);
    }
}
