//! The time since which an item waits for an owner.

use crate::clock::Timestamp;

/// The time from which an item may be claimed. If an item has several, the least one counts.
///
/// The clock of the writer may be ahead of the clock of the claiming node. An item with a due time waits for that time;
/// an item that may be claimed at once must not wait until the slower clock has caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ready {
    /// At once; it was written at this time, by the clock of the writer.
    AtOnce(Timestamp),
    /// Not before this time.
    At(Timestamp),
}

impl Ready {
    /// Returns when a message makes its instance claimable; `sent` is the time of the sender.
    pub fn by_message(visible_at: Option<Timestamp>, sent: Timestamp) -> Self {
        visible_at.map_or(Self::AtOnce(sent), Self::At)
    }

    /// Returns the time since which the item is ready, by a clock that shows `now`, or at which it will be ready.
    pub fn since(self, now: Timestamp) -> Timestamp {
        match self {
            Self::AtOnce(since) => since.min(now),
            Self::At(time) => time,
        }
    }
}
