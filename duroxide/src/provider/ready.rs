//! Since when something waits for an owner.

use crate::clock::Timestamp;

/// When something may be handed out; of several times, the least is the one that counts. The clock of whoever wrote that may be ahead of the clock of whoever asks: for what is
/// due at a time that is of no concern, but what may be handed out at once must not wait until that time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ready {
    /// At once, since this time by the clock of whoever wrote it.
    AtOnce(Timestamp),
    /// Not before this time.
    At(Timestamp),
}

impl Ready {
    /// When a message makes an instance ready.
    pub(crate) fn by_message(visible_at: Option<Timestamp>, sent: Timestamp) -> Self {
        visible_at.map_or(Self::AtOnce(sent), Self::At)
    }

    /// Since when it is ready, by a clock that says `now`; of what is not ready yet, when it will be.
    pub(crate) fn since(self, now: Timestamp) -> Timestamp {
        match self {
            Self::AtOnce(since) => since.min(now),
            Self::At(time) => time,
        }
    }
}
