//! Waits for an instance to change.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};

use super::Client;
use crate::clock::Clock;
use crate::clock::virtual_time::{ClockHold, WaitFailure};
use crate::id::InstanceId;
use crate::node::NodeHandle;
use crate::provider::{Finished, InstanceWatch};

/// Follows an instance. A caller that creates a `Wait` and reads the instance afterwards misses no change.
pub(super) struct Wait<'a> {
    clock: &'a dyn Clock,
    local: Option<&'a NodeHandle>,
    instance: &'a InstanceId,
    /// Stops a virtual clock except while this waits, so that it does not jump before the caller has handled a change;
    /// see [`virtual_time`](crate::clock::virtual_time). Dropped before `watch`, whose state is removed with its last
    /// receiver.
    hold: ClockHold,
    watch: InstanceWatch,
}

impl<'a> Wait<'a> {
    pub(super) fn new(client: &'a Client, instance: &'a InstanceId) -> Self {
        let hold = client.clock.hold();
        let watch = client.provider.wakeups().watch(instance);
        Self { clock: &*client.clock, local: client.local.as_ref(), instance, hold, watch }
    }

    /// Waits until the instance changes, or the runtime of this client stops. Returns the outcome of the instance if
    /// the change was its end and carries the outcome.
    pub(super) async fn for_change(&mut self) -> Option<Arc<Finished>> {
        let stopped = stopped(self.local, self.release_clock());
        let finished = match select(pin!(self.watch.changed()), pin!(stopped)).await {
            Either::Left((finished, _)) => finished,
            Either::Right(_) => None,
        };
        self.hold = self.clock.hold();
        finished
    }

    /// As [`for_change`](Self::for_change), but also returns once the instance is no longer live on the local node.
    pub(super) async fn while_live_here(&mut self) -> Option<Arc<Finished>> {
        let gone = self.local?.until_not_live(self.instance);
        let stopped = stopped(self.local, self.release_clock());
        let gone = async {
            match select(gone, pin!(stopped)).await {
                Either::Left((hold, _)) => hold.ok(),
                Either::Right(_) => None,
            }
        };
        let (finished, hold) = match select(pin!(self.watch.changed()), pin!(gone)).await {
            Either::Left((finished, _)) => (finished, None),
            Either::Right((hold, _)) => (None, hold),
        };
        self.hold = hold.unwrap_or_else(|| self.clock.hold());
        finished
    }

    /// Lets a virtual clock move until the instance changes. Such a clock may fail the wait.
    fn release_clock(&mut self) -> Option<WaitFailure> {
        if self.hold.is_none() {
            return None;
        }
        let (participant, failure) = self.watch.participant();
        self.hold = self.clock.join(participant);
        Some(failure)
    }
}

/// Resolves once the runtime of the client has stopped; never for a client without a runtime. Panics if the wait fails.
async fn stopped(local: Option<&NodeHandle>, failure: Option<WaitFailure>) {
    let stopped = async {
        match local {
            Some(local) => local.stop_signal().stopped().await,
            None => std::future::pending().await,
        }
    };
    match failure {
        Some(failure) => {
            select(pin!(stopped), pin!(failure.raise())).await;
        }
        None => stopped.await,
    }
}
