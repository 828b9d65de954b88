//! The lease of the node, and its loss.

use std::sync::Arc;

use super::heartbeat::Heartbeat;
use super::{Answer, Node, NodeHandle};
use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::provider::{Lease, ProviderError, Renewal};

/// The membership of the node.
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

    pub(super) fn stop_heartbeat(&self) {
        self.heartbeat.stop();
    }

    fn rejoined(&mut self, lease: Lease) {
        (self.lease, self.rejoining) = (lease, false);
        self.handle.set_lease(lease);
        self.heartbeat.renew_as(lease);
    }
}

impl Node {
    /// Returns true if the node may begin new work.
    pub(super) fn accepts_work(&self) -> bool {
        self.draining.is_none() && !self.membership.is_rejoining()
    }

    pub(super) fn lease_was_renewed(&mut self, lease: Lease, renewed: Result<Renewal, ProviderError>) {
        if lease != self.membership.lease {
            return;
        }
        match renewed {
            Ok(Renewal::Held { .. }) => {}
            Ok(Renewal::Lost) => self.lease_lost("another node has taken over"),
            // Not a loss: the node owns its items until another node takes over, and then its commits are refused.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed; retrying"),
        }
    }

    pub(super) fn lease_has_expired(&mut self, lease: Lease) {
        if lease == self.membership.lease {
            self.lease_lost("the lease has expired, since it could not be renewed in time");
        }
    }

    /// Drops the live copies and cancels the activities of a lease that is lost or has expired, and joins again.
    fn lease_lost(&mut self, reason: &str) {
        if !self.accepts_work() {
            return;
        }
        tracing::warn!(
            node = %self.membership.lease.node,
            code = %ErrorCode::LeaseLost,
            reason,
            "the node has lost its lease and joins again"
        );
        self.membership.rejoining = true;
        self.live.clear();
        self.activities.cancel_all();
        let shared = self.shared.clone();
        self.ask(async move {
            let mut backoff = Backoff::default();
            loop {
                match shared.provider.join(&shared.info).await {
                    Ok(lease) => return Answer::Joined(lease),
                    Err(error) => tracing::warn!(%error, "joining again failed; retrying"),
                }
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    pub(super) fn rejoined(&mut self, lease: Lease) {
        self.membership.rejoined(lease);
        self.work.restart();
        self.turns.forget_reads();
        self.lost.clear();
        self.time.stop_recheck();
        self.live.clear_timers();
    }
}
