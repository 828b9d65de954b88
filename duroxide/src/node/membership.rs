//! The membership of the node.

use std::sync::Arc;

use super::handle::NodeHandle;
use super::heartbeat::Heartbeat;
use crate::provider::Lease;

/// The lease, with the heartbeat that renews it and the handle that shows it to clients.
pub(super) struct Membership {
    /// The lease; while the node rejoins, the one that it has lost.
    pub(super) lease: Lease,
    /// True while a join is under way, after the lease was lost.
    rejoining: bool,
    handle: NodeHandle,
    heartbeat: Arc<Heartbeat>,
}

impl Membership {
    pub(super) fn new(lease: Lease, handle: NodeHandle, heartbeat: Arc<Heartbeat>) -> Self {
        Self { lease, rejoining: false, handle, heartbeat }
    }

    pub(super) fn is_rejoining(&self) -> bool {
        self.rejoining
    }

    /// Returns true if this is the lease, and it is not lost.
    pub(super) fn holds(&self, lease: &Lease) -> bool {
        self.lease == *lease && !self.rejoining
    }

    /// Renews the lease at once, which shows whether it still holds.
    pub(super) fn check(&self) {
        self.heartbeat.beat_now();
    }

    /// Shows clients whether the node leaves new work to other members.
    pub(super) fn set_busy(&self, busy: bool) {
        self.handle.set_busy(busy);
    }

    pub(super) fn stop_heartbeat(&self) {
        self.heartbeat.stop();
    }

    pub(super) fn rejoin_begins(&mut self) {
        self.rejoining = true;
    }

    pub(super) fn rejoined(&mut self, lease: Lease) {
        (self.lease, self.rejoining) = (lease, false);
        self.handle.set_lease(lease);
        self.heartbeat.renew_as(lease);
    }
}
