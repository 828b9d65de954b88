//! The messages to the node: from clients of this process, the heartbeat, live copies and the runtime.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::clock::virtual_time::ClockHold;
use crate::id::InstanceId;
use crate::provider::{Lease, MessageRow, NewInstance, ProviderError, Renewal, Submitted};

/// A message to the node.
pub(super) enum Command {
    /// A client of this process has sent a message to an instance that this node owns.
    Deliver(InstanceId, MessageRow, Submitted, ClockHold),
    /// A client of this process starts an instance.
    Start(PendingStart),
    /// A client of this process has created an instance that this node owns.
    Create(Box<NewInstance>, Submitted, ClockHold),
    /// A client of this process waits until an instance is not live here.
    Watch(InstanceId, LivenessWatcher, ClockHold),
    /// A request of a client of this process has no answer: the instance may have changed, or may change yet.
    Recheck(InstanceId),
    /// A client of this process has ended or removed an instance.
    Ended(InstanceId),
    /// The heartbeat has tried to renew the lease.
    Renewed(Lease, Result<Renewal, ProviderError>),
    /// The lease has expired: no renewal has succeeded for too long.
    Expired(Lease),
    /// A future that is not durable has woken a live copy, or its context was used outside of its turn.
    Stray(InstanceId, u64),
    /// The runtime shuts down. The sender is answered when everything is stored.
    Shutdown(oneshot::Sender<()>),
}

/// An instance that is not stored yet, and whose client waits until it is. If it is dropped, the client stores the
/// start.
pub(super) struct PendingStart {
    pub(super) new: Box<NewInstance>,
    /// Sent once the instance is stored.
    pub(super) stored: oneshot::Sender<()>,
}

/// A client that waits until an instance is no longer live here. Resolves its receiver on drop.
pub(super) struct LivenessWatcher {
    clock: Arc<dyn Clock>,
    ended: Option<oneshot::Sender<ClockHold>>,
}

impl LivenessWatcher {
    pub(super) fn new(clock: Arc<dyn Clock>) -> (Self, oneshot::Receiver<ClockHold>) {
        let (ended, until_ended) = oneshot::channel();
        (Self { clock, ended: Some(ended) }, until_ended)
    }

    /// Returns true if the client has stopped waiting.
    pub(super) fn is_closed(&self) -> bool {
        self.ended.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for LivenessWatcher {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            // The client may have stopped waiting.
            let _ = ended.send(self.clock.hold());
        }
    }
}
