//! Clients of a stopped runtime: they answer reads, and refuse all other requests instead of waiting forever.

use std::future::IntoFuture;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{InstanceStatus, MemoryProvider};
use duroxide::runtime::RuntimeBuilder;
use duroxide::{ClientError, ErrorCode, OutcomeError, Registry};
use futures_util::FutureExt;

#[event]
struct Go;

#[orchestration]
async fn waits_to_go(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    ctx.event::<Go>().await;
    Ok(7)
}

fn builder() -> RuntimeBuilder {
    Runtime::builder().registry(Registry::empty().with_orchestration::<waits_to_go>())
}

async fn runtime(provider: &MemoryProvider) -> Runtime {
    builder().provider(provider.clone()).start().await.unwrap()
}

/// Awaits a future, and panics if it takes too long.
async fn soon<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future.into_future()).await.expect("the future does not complete")
}

fn assert_stopped<T: std::fmt::Debug>(result: Result<T, ClientError>) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RuntimeStopped);
    assert!(!error.is_retryable(), "{error}");
}

fn assert_result_stopped(result: Result<u32, OutcomeError<duroxide::Error>>) {
    match result {
        Err(OutcomeError::Client(error)) => assert_stopped::<u32>(Err(error)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pending_waits_end_with_the_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    waits_end(builder().in_memory().start().await.unwrap()).await;
    waits_end(builder().sqlite(folder.path().join("state.db")).start().await.unwrap()).await;
}

async fn waits_end(runtime: Runtime) {
    let handle = waits_to_go::start(&runtime.client(), "x").await.unwrap();
    let mut result = Box::pin(handle.result());
    let mut wait = Box::pin(handle.wait());
    let mut condition = Box::pin(handle.wait_for(|status| status.status.is_finished()));
    assert!((&mut result).now_or_never().is_none());
    assert!((&mut wait).now_or_never().is_none());
    assert!((&mut condition).now_or_never().is_none());
    runtime.shutdown().await.unwrap();
    assert_result_stopped(soon(result).await);
    assert_stopped(soon(wait).await);
    assert_stopped(soon(condition).await);
    // Also through clones that were made before.
    assert_result_stopped(soon(handle.clone().result()).await);
    assert_stopped(soon(handle.raise(Go)).await);
}

#[tokio::test]
async fn after_the_shutdown_only_reads_are_answered() {
    let runtime = runtime(&MemoryProvider::new()).await;
    let client = runtime.client();
    let handle = waits_to_go::start(&client, "waits").await.unwrap();
    let finished = waits_to_go::start(&client, "finished").await.unwrap();
    finished.raise(Go).await.unwrap();
    finished.result().await.unwrap();
    runtime.shutdown().await.unwrap();

    assert_eq!(soon(finished.result()).await.unwrap(), 7);
    assert_eq!(soon(finished.wait()).await.unwrap(), InstanceStatus::Completed);
    assert_eq!(handle.status().await.unwrap().status, InstanceStatus::Running);
    assert_eq!(handle.history().await.unwrap().len(), 2);
    assert_eq!(client.list(&Default::default(), 10).await.unwrap().instances.len(), 2);

    assert_result_stopped(soon(handle.result()).await);
    assert_stopped(soon(handle.wait()).await);
    assert_stopped(soon(handle.wait_for(|status| status.status.is_finished())).await);
    assert_stopped(waits_to_go::start(&client, "new").await);
    assert_stopped(client.start("waits_to_go", "new", &()).await);
    assert_stopped(handle.raise(Go).await);
    assert_stopped(handle.cancel("why").await);
    assert_stopped(handle.terminate("why").await);
    assert_stopped(handle.resume().await);
    assert_stopped(finished.delete().await);
    assert_stopped(client.prune(&Default::default(), client.now()).await);
    assert!(client.handle("new").status().await.unwrap_err().is_not_found(), "nothing was carried out");
    assert_eq!(handle.history().await.unwrap().len(), 2);
}

#[tokio::test]
async fn drop_of_the_runtime_stops_its_clients() {
    let runtime = runtime(&MemoryProvider::new()).await;
    let client = runtime.client();
    let handle = waits_to_go::start(&client, "x").await.unwrap();
    let mut pending = Box::pin(handle.result());
    assert!((&mut pending).now_or_never().is_none());
    drop(runtime);
    assert_stopped(handle.raise(Go).await);
    assert_stopped(waits_to_go::start(&client, "y").await);
    assert_result_stopped(soon(pending).await);
    assert_result_stopped(soon(handle.result()).await);
}

#[tokio::test]
async fn end_of_its_tokio_runtime_stops_the_clients() {
    let provider = MemoryProvider::new();
    let (runtime, handle) = std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        tokio.block_on(async {
            let runtime = runtime(&provider).await;
            let handle = waits_to_go::start(&runtime.client(), "x").await.unwrap();
            (runtime, handle)
        })
    })
    .join()
    .unwrap();
    assert_result_stopped(soon(handle.result()).await);
    assert_stopped(handle.raise(Go).await);
    drop(runtime);
}

#[tokio::test]
async fn client_without_a_runtime_waits_for_the_next_one() {
    let provider = MemoryProvider::new();
    let client = Client::new(provider.clone());
    let first = runtime(&provider).await;
    let handle = waits_to_go::start(&client, "x").await.unwrap();
    let mut result = Box::pin(handle.result());
    assert!((&mut result).now_or_never().is_none());
    first.shutdown().await.unwrap();
    handle.raise(Go).await.unwrap();
    let later = waits_to_go::start(&client, "later").await.unwrap();
    assert!((&mut result).now_or_never().is_none());
    let second = runtime(&provider).await;
    assert_eq!(soon(result).await.unwrap(), 7);
    later.cancel("enough").await.unwrap();
    second.shutdown().await.unwrap();
}
