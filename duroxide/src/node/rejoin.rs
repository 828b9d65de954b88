//! The loss of the lease: the node drops the work of the lost lease, and joins again.

use super::{Answer, Node};
use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::provider::{Lease, ProviderError, Renewal};

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
            Ok(Renewal::Held { others, .. }) => {
                self.balance.renewed(others, tokio::time::Instant::now(), self.live.last_use());
                self.release_instances();
            }
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
        self.metrics.lost_leases.increment(1);
        self.membership.rejoin_begins();
        self.live.clear();
        self.activities.cancel_all();
        self.last_failures.clear();
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
