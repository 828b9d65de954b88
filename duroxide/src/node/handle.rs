//! The handle by which clients of the same process reach the node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use semver::Version;
use tokio::sync::{mpsc, oneshot};

use super::command::{Command, LivenessWatcher, PendingStart};
use super::stop_signal::StopSignal;
use crate::clock::Clock;
use crate::clock::virtual_time::ClockHold;
use crate::id::{Epoch, InstanceId};
use crate::provider::{Lease, MessageRow, NewInstance, Submitted};
use crate::registry::Lookup;

/// Forwards stored messages and new instances to the node that owns them, without a request to the provider.
#[derive(Clone)]
pub(crate) struct NodeHandle {
    /// Weak, so that a client does not keep the node alive.
    commands: mpsc::WeakUnboundedSender<Command>,
    lookup: Arc<Lookup>,
    clock: Arc<dyn Clock>,
    /// A std mutex: held for a moment.
    lease: Arc<Mutex<Lease>>,
    /// True while the node leaves new work to other members.
    is_busy: Arc<AtomicBool>,
    stopped: StopSignal,
}

impl NodeHandle {
    pub(super) fn new(
        commands: &mpsc::UnboundedSender<Command>,
        lookup: Arc<Lookup>,
        clock: Arc<dyn Clock>,
        lease: Lease,
        stopped: StopSignal,
    ) -> Self {
        Self {
            commands: commands.downgrade(),
            lookup,
            clock,
            lease: Arc::new(Mutex::new(lease)),
            is_busy: Arc::default(),
            stopped,
        }
    }

    /// The signal that the runtime has stopped.
    pub(crate) fn stop_signal(&self) -> &StopSignal {
        &self.stopped
    }

    pub(crate) fn lease(&self) -> Lease {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_lease(&self, lease: Lease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.is_busy.store(busy, Ordering::Relaxed);
    }

    /// Returns true if the node has the code for an orchestration, accepts commands, and does not leave new work to other
    /// members.
    pub(crate) fn accepts_start(&self, name: &str, version: Option<&Version>) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
            && self.has_code(name, version)
            && self.commands.upgrade().is_some_and(|commands| !commands.is_closed())
    }

    /// Returns true if the node has the code for an orchestration.
    pub(crate) fn has_code(&self, name: &str, version: Option<&Version>) -> bool {
        self.lookup.orchestration(name, version).is_some()
    }

    /// Starts an instance whose code the node has. Returns true once it is stored; on false, the caller stores the
    /// start.
    pub(crate) async fn start(&self, new: Box<NewInstance>) -> bool {
        let (stored, answer) = oneshot::channel();
        let sent = self.send(Command::Start(PendingStart { new, stored }));
        sent && answer.await.is_ok()
    }

    /// Forwards a message that was stored, if this node owns its instance.
    pub(crate) fn deliver(&self, submitted: Submitted, to: InstanceId, message: MessageRow) {
        self.send_if_owner(submitted.owner, Command::Deliver(to, message, submitted, self.clock.hold()));
    }

    /// Forwards an instance that was created, if this node owns it.
    pub(crate) fn create(&self, submitted: Submitted, new: NewInstance) {
        self.send_if_owner(submitted.owner, Command::Create(Box::new(new), submitted, self.clock.hold()));
    }

    /// Returns a receiver that resolves once the instance is not live on the node, at once if it is not live, or once its
    /// live copy is behind the storage. An end by the node itself is committed before.
    pub(crate) fn until_not_live(&self, instance: &InstanceId) -> oneshot::Receiver<ClockHold> {
        let (watcher, until_ended) = LivenessWatcher::new(self.clock.clone());
        self.send(Command::Watch(instance.clone(), watcher, self.clock.hold()));
        until_ended
    }

    /// Makes the node recheck an instance, because the outcome of a request for it is unknown.
    pub(crate) fn recheck(&self, instance: InstanceId) {
        self.send(Command::Recheck(instance));
    }

    /// Makes the node drop its live copy of an instance that was ended or removed from outside.
    pub(crate) fn instance_ended(&self, instance: InstanceId) {
        self.send(Command::Ended(instance));
    }

    /// Sends a command. Returns false if the node has ended: other nodes find the item in the storage.
    fn send(&self, command: Command) -> bool {
        // The strong sender is dropped at once: a waiting client must not keep the node alive.
        self.commands.upgrade().is_some_and(|commands| commands.send(command).is_ok())
    }

    fn send_if_owner(&self, owner: Option<Epoch>, command: Command) {
        if owner == Some(self.lease().epoch) {
            self.send(command);
        }
    }
}
