//! Versions of one orchestration side by side.

use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::{Client, Registry};

#[event]
struct Next {
    version: Option<String>,
}

/// One name in several versions: each tells which it is, and goes on in the version that it is told.
enum Step<const MAJOR: u64> {}

impl<const MAJOR: u64> Orchestration for Step<MAJOR> {
    const NAME: &'static str = "step";
    const VERSION: &'static str = match MAJOR {
        1 => "1.0.0",
        2 => "2.0.0",
        _ => "10.0.0",
    };
    type Input = Vec<u64>;
    type Output = Vec<u64>;
    type Error = duroxide::Error;
}

impl<const MAJOR: u64> OrchestrationFn for Step<MAJOR> {
    async fn run(ctx: OrchestrationContext, mut steps: Vec<u64>) -> duroxide::Result<Vec<u64>> {
        steps.push(MAJOR);
        match ctx.event::<Next>().await.version.as_deref() {
            None => Ok(steps),
            Some("latest") => ctx.continue_as_new(&steps).await,
            Some("same") => ctx.continue_as_new(&steps).version(Self::VERSION).await,
            Some("child") => Ok(ctx.call_orchestration("versioned", &()).await?),
            Some(child) if child.starts_with("child ") => {
                Ok(ctx.call_orchestration("versioned", &()).version(&child[6..]).await?)
            }
            Some(exact) => ctx.continue_as_new(&steps).version(exact).await,
        }
    }
}

mod v1 {
    use duroxide::prelude::*;

    #[orchestration(version = "1.0.0")]
    pub(super) async fn versioned(ctx: OrchestrationContext) -> duroxide::Result<Vec<u64>> {
        drop(ctx);
        Ok(vec![1])
    }
}

mod v2 {
    use duroxide::prelude::*;

    #[orchestration(version = "1.2.0")]
    pub(super) async fn versioned(ctx: OrchestrationContext) -> duroxide::Result<Vec<u64>> {
        drop(ctx);
        Ok(vec![2])
    }
}

fn both() -> Registry {
    old().with_orchestration::<Step<2>>().with_orchestration::<v2::versioned>()
}

fn old() -> Registry {
    Registry::empty().with_orchestration::<Step<1>>().with_orchestration::<v1::versioned>()
}

fn next(version: &str) -> Next {
    Next { version: Some(version.to_owned()) }
}

async fn node(provider: &MemoryProvider, registry: Registry) -> Runtime {
    Runtime::builder().provider(provider.clone()).registry(registry).start().await.unwrap()
}

#[tokio::test]
async fn a_new_start_takes_the_latest_or_the_one_that_was_asked_for() {
    let provider = MemoryProvider::new();
    let runtime = node(&provider, both().with_orchestration::<Step<10>>()).await;
    let client = runtime.client();
    for (id, version, expected) in [("latest", None, 10), ("one", Some("1.0.0"), 1), ("two", Some("2.0.0"), 2)] {
        let mut start = client.start("step", id, &Vec::<u64>::new());
        if let Some(version) = version {
            start = start.version(version);
        }
        let handle = start.await.unwrap();
        handle.raise(Next { version: None }).await.unwrap();
        assert_eq!(handle.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [expected]);
        assert_eq!(handle.status().await.unwrap().version.unwrap().major, expected);
    }
    let error = client.start("step", "bad", &()).version("one").await.unwrap_err();
    assert!(error.to_string().contains("semver"), "{error}");
}

#[tokio::test]
async fn a_running_instance_stays_with_its_version_and_moves_when_it_continues() {
    let provider = MemoryProvider::new();
    let runtime = node(&provider, old()).await;
    let start = |id: &str| Client::new(provider.clone()).start("step", id, &Vec::<u64>::new());
    let mut handles = Vec::new();
    for id in ["stays", "latest", "same", "exact", "back"] {
        let handle = start(id).await.unwrap();
        while handle.status().await.unwrap().version.is_none() {
            tokio::task::yield_now().await;
        }
        handles.push(handle);
    }
    runtime.shutdown().await.unwrap();
    let runtime = node(&provider, both()).await;
    let moves: [&[&str]; 5] = [&[], &["latest"], &["same", "same"], &["2.0.0"], &["2.0.0", "1.0.0", "latest"]];
    let expected: [&[u64]; 5] = [&[1], &[1, 2], &[1, 1, 1], &[1, 2], &[1, 2, 1, 2]];
    for ((handle, moves), expected) in handles.iter().zip(moves).zip(expected) {
        for version in moves {
            handle.raise(next(version)).await.unwrap();
        }
        handle.raise(Next { version: None }).await.unwrap();
        assert_eq!(handle.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), expected);
    }
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_child_takes_the_latest_or_the_one_that_was_asked_for() {
    let provider = MemoryProvider::new();
    let runtime = node(&provider, both()).await;
    for (how, expected) in [("child", 2), ("child 1.0.0", 1), ("child 1.2.0", 2)] {
        let handle = runtime.client().start("step", how, &Vec::<u64>::new()).await.unwrap();
        handle.raise(next(how)).await.unwrap();
        assert_eq!(handle.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [expected]);
    }
}

#[tokio::test]
async fn a_node_is_only_given_the_versions_that_it_has() {
    let provider = MemoryProvider::new();
    let first = node(&provider, old()).await;
    let client = first.client();
    let new = client.start("step", "new", &Vec::<u64>::new()).version("2.0.0").await.unwrap();
    let unclaimed = new.status().await.unwrap().unclaimed.unwrap();
    assert_eq!(unclaimed.what, "orchestration step 2.0.0");
    let moves = client.start("step", "moves", &Vec::<u64>::new()).await.unwrap();
    moves.raise(next("2.0.0")).await.unwrap();
    while moves.status().await.unwrap().unclaimed.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(moves.status().await.unwrap().execution.number, 2);
    for handle in [&new, &moves] {
        handle.raise(Next { version: None }).await.unwrap();
    }
    // The node that has the new version has not got the old one.
    let second = node(&provider, Registry::empty().with_orchestration::<Step<2>>()).await;
    assert_eq!(new.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [2]);
    assert_eq!(moves.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [1, 2]);
    let old = client.start("step", "old", &Vec::<u64>::new()).version("1.0.0").await.unwrap();
    old.raise(Next { version: None }).await.unwrap();
    assert_eq!(old.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [1]);
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}
