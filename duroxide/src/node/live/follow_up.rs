//! The work that follows from a change of the live instances.

use semver::Version;

use crate::id::{EventId, ExecutionId, InstanceId};
use crate::node::delivery::Delivery;
use crate::node::inbox::Inbox;
use crate::provider::HistoryPage;
use crate::replay::{Execution, Fault, Held};

/// The work that follows from a change of the live instances.
#[must_use]
pub(in crate::node) enum FollowUp {
    Nothing,
    /// Load the instance: it is not live, or was dropped with these deliveries, whose outcomes are to be stored.
    Load(InstanceId, Vec<Delivery>),
    /// Request the messages that are missing before one that was received.
    FillGap(InstanceId),
    /// Store the outcomes among the deliveries of an instance that is no longer live.
    StoreOutcomes(Vec<Delivery>),
    /// Read the history of an instance after its first page.
    ReadHistory(InstanceId, HistoryPage),
    Suspend(Stopped),
}

/// An instance that a fault has stopped.
pub(in crate::node) struct Stopped {
    pub(in crate::node) execution: ExecutionId,
    /// The last event that is committed.
    pub(in crate::node) committed: EventId,
    /// The generation of the live copy; zero if there is none.
    pub(in crate::node) generation: u64,
    pub(in crate::node) fault: Fault,
}

/// A turn that was stored, as far as it concerns its instance.
pub(in crate::node) struct StoredTurn {
    pub(in crate::node) generation: u64,
    /// The live copy and its version, unless the turn suspends.
    pub(in crate::node) copy: Option<(Box<Execution>, Version)>,
    /// Deliveries that the turn has not read.
    pub(in crate::node) undelivered: Inbox,
    /// Held events of an execution that continues as new.
    pub(in crate::node) held: Held,
}

impl FollowUp {
    pub(super) fn load(instance: InstanceId) -> Self {
        Self::Load(instance, Vec::new())
    }
}
