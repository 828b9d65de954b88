//! A node that is busier than the others releases a share of its instances to them.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use duroxide::id::InstanceId;
use duroxide::prelude::*;
use duroxide::provider::{
    Commit, CommitError, Committed, Layered, Lease, MemoryProvider, Provider, ProviderError, ProviderLayer, Write,
};
use duroxide::{Client, Error, Registry, RuntimeOptions};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc as channel;

/// The receiver at which the first turn of `shedding_slow` blocks its thread.
static CLOSED: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);

#[event(name = "shedding-go")]
struct Go;

#[orchestration]
async fn shedding_slow(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let Go = ctx.event().await;
    let closed = CLOSED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(closed) = closed {
        // Ends when the sender is dropped.
        let _ = closed.recv();
    }
    Ok(())
}

#[orchestration]
async fn shedding_quick(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let Go = ctx.event().await;
    Ok(())
}

/// Shows the instances that a node releases.
struct Releases {
    inner: MemoryProvider,
    released: channel::UnboundedSender<InstanceId>,
}

impl ProviderLayer for Releases {
    fn inner(&self) -> &dyn Provider {
        &self.inner
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Arc<Commit>>,
    ) -> BoxFuture<'a, Result<Vec<Result<Committed, CommitError>>, ProviderError>> {
        Box::pin(async move {
            let answers = self.inner.commit(lease, entries.clone()).await?;
            for entry in entries {
                if let Write::ReleaseInstance { execution, .. } = &entry.write {
                    let _ = self.released.send(execution.instance.clone());
                }
            }
            Ok(answers)
        })
    }
}

async fn node(provider: impl Provider) -> Runtime {
    let registry = Registry::empty().with_orchestration::<shedding_slow>().with_orchestration::<shedding_quick>();
    let options = RuntimeOptions::new().turn_threads(1).lease_time(Duration::from_secs(1));
    Runtime::builder().provider(provider).registry(registry).options(options).start().await.unwrap()
}

async fn waiting(client: &Client, name: &str, count: usize) -> Vec<String> {
    let ids: Vec<_> = (0..count).map(|n| format!("{name}-{n}")).collect();
    for id in &ids {
        client.start(name, id.as_str(), &()).await.unwrap();
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busier_node_sheds_instances_that_wait() {
    let store = MemoryProvider::new();
    let (released, mut releases) = channel::unbounded_channel();
    let busy = node(Layered(Releases { inner: store.clone(), released })).await;
    let client = busy.client();
    // The first ones have been idle for longest.
    let quick = waiting(&client, "shedding_quick", 40).await;
    // More than the turns beside which a node claims new work.
    let slow = waiting(&client, "shedding_slow", 64).await;
    let other = node(store).await;

    let (open, closed) = mpsc::channel();
    *CLOSED.lock().unwrap_or_else(PoisonError::into_inner) = Some(closed);
    for id in &slow {
        client.handle(id.as_str()).raise(Go).await.unwrap();
    }
    let moved = tokio::time::timeout(Duration::from_secs(60), releases.recv()).await.unwrap().unwrap();
    assert!(quick.contains(&moved.to_string()), "{moved} has no message");
    // The only thread of its former node is blocked.
    let handle = other.client().handle(moved.as_str());
    handle.raise(Go).await.unwrap();
    handle.result_as::<(), Error>().await.unwrap();

    drop(open);
    for id in &slow {
        client.handle(id.as_str()).result_as::<(), Error>().await.unwrap();
    }
    busy.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}
