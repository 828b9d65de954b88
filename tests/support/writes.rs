//! Waits for stored state without polling: a provider signals its writes.

use std::sync::{Arc, LazyLock};

use duroxide::Handle;
use duroxide::provider::*;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// Changes after each write of a [`signalling`] provider of this process.
static WRITES: LazyLock<watch::Sender<()>> = LazyLock::new(watch::Sender::default);

/// Waits until the stored state meets a condition, which is checked again after each write. The providers that write must be
/// [`signalling`]. Writes of [`Admin`] are not signalled.
pub async fn until_stored(condition: impl AsyncFn() -> bool) {
    let mut writes = WRITES.subscribe();
    while !condition().await {
        // The sender is never dropped.
        let _ = writes.changed().await;
    }
}

/// Waits until an instance has this number of events.
pub async fn until_events<O>(handle: &Handle<O>, events: u64) {
    until_stored(async || handle.status().await.expect("a status").events.0 >= events).await;
}

/// Waits until an instance has continued as new up to an execution.
pub async fn until_execution<O>(handle: &Handle<O>, number: u64) {
    until_stored(async || handle.status().await.expect("a status").execution.number >= number).await;
}

/// Waits until an instance has been started.
pub async fn until_started<O>(handle: &Handle<O>) {
    until_stored(async || handle.status().await.is_ok()).await;
}

/// A provider that signals its writes.
pub type SignallingProvider = Layered<SignallingLayer>;

/// Forwards all calls to another provider, and signals its writes.
#[derive(Clone)]
pub struct SignallingLayer(Arc<dyn Provider>);

/// Makes a provider that signals the writes of another one to [`until_stored`].
pub fn signalling(inner: impl Provider) -> SignallingProvider {
    Layered(SignallingLayer(Arc::new(inner)))
}

/// Signals a write when it is dropped.
struct Signal;

impl Drop for Signal {
    fn drop(&mut self) {
        WRITES.send_replace(());
    }
}

/// Signals a write after the call, also if its future is dropped: the call may have been carried out.
fn written<'a, T>(call: BoxFuture<'a, T>) -> BoxFuture<'a, T>
where
    T: Send + 'a,
{
    Box::pin(async move {
        let _signal = Signal;
        call.await
    })
}

impl ProviderLayer for SignallingLayer {
    fn inner(&self) -> &dyn Provider {
        &*self.0
    }

    fn join<'a>(&'a self, node: &'a NodeInfo) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        written(self.0.join(node))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, report: &'a NodeReport) -> BoxFuture<'a, Result<Renewal, ProviderError>> {
        written(self.0.renew(lease, report))
    }

    fn leave<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), ProviderError>> {
        written(self.0.leave(lease))
    }

    fn acquire<'a>(&'a self, lease: &'a Lease, want: Want) -> BoxFuture<'a, Result<Acquired, ProviderError>> {
        written(self.0.acquire(lease, want))
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        written(self.0.commit(lease, entries))
    }

    fn submit(
        &self,
        entries: Vec<Submission>,
    ) -> BoxFuture<'_, Result<Vec<Result<Submitted, SubmitError>>, ProviderError>> {
        written(self.0.submit(entries))
    }
}
