//! Several versions of an orchestration, side by side.

use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::{Client, Registry};
use support::{signalling, until_events, until_stored};

#[event]
struct Next {
    version: Option<String>,
}

/// An orchestration in several versions: each records its own version, and continues in the version that an event names.
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
    Runtime::builder().provider(signalling(provider.clone())).registry(registry).start().await.unwrap()
}

#[tokio::test]
async fn start_takes_the_latest_or_the_requested_version() {
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
async fn running_instance_changes_version_only_when_it_continues() {
    let provider = MemoryProvider::new();
    let runtime = node(&provider, old()).await;
    let start = |id: &str| Client::new(provider.clone()).start("step", id, &Vec::<u64>::new());
    let mut handles = Vec::new();
    for id in ["stays", "latest", "same", "exact", "back"] {
        let handle = start(id).await.unwrap();
        until_stored(async || handle.status().await.unwrap().version.is_some()).await;
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
async fn child_takes_the_latest_or_the_requested_version() {
    let provider = MemoryProvider::new();
    let runtime = node(&provider, both()).await;
    for (how, expected) in [("child", 2), ("child 1.0.0", 1), ("child 1.2.0", 2)] {
        let handle = runtime.client().start("step", how, &Vec::<u64>::new()).await.unwrap();
        handle.raise(next(how)).await.unwrap();
        assert_eq!(handle.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [expected]);
    }
}

#[tokio::test]
async fn node_claims_only_registered_versions() {
    let provider = MemoryProvider::new();
    let first = node(&provider, old()).await;
    let client = first.client();
    let new = client.start("step", "new", &Vec::<u64>::new()).version("2.0.0").await.unwrap();
    let unclaimed = new.status().await.unwrap().unclaimed.unwrap();
    assert_eq!(unclaimed.what, "orchestration step 2.0.0");
    let moves = client.start("step", "moves", &Vec::<u64>::new()).await.unwrap();
    moves.raise(next("2.0.0")).await.unwrap();
    until_stored(async || moves.status().await.unwrap().unclaimed.is_some()).await;
    assert_eq!(moves.status().await.unwrap().execution.number, 2);
    for handle in [&new, &moves] {
        handle.raise(Next { version: None }).await.unwrap();
    }
    // The second node has the new version, but not the old one.
    let second = node(&provider, Registry::empty().with_orchestration::<Step<2>>()).await;
    assert_eq!(new.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [2]);
    assert_eq!(moves.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [1, 2]);
    let old = client.start("step", "old", &Vec::<u64>::new()).version("1.0.0").await.unwrap();
    old.raise(Next { version: None }).await.unwrap();
    assert_eq!(old.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [1]);
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

/// An older build of the orchestration `travels`, with its input.
enum Travels {}

#[derive(serde::Serialize, serde::Deserialize)]
struct OldTrip {
    to: String,
}

impl Orchestration for Travels {
    const NAME: &'static str = "travels";
    type Input = OldTrip;
    type Output = String;
    type Error = duroxide::Error;
}

impl OrchestrationFn for Travels {
    async fn run(ctx: OrchestrationContext, trip: OldTrip) -> duroxide::Result<String> {
        let ticket: String = ctx.call_activity("books", &trip).await?;
        ctx.event_named::<()>("Departure").await;
        Ok(ticket)
    }
}

/// The newer build: the functions have other names, are in another module, and their input has another field.
mod today {
    pub(super) mod journeys {
        use duroxide::prelude::*;
        use serde::{Deserialize, Serialize};

        #[derive(Serialize, Deserialize)]
        pub(in super::super) struct Trip {
            to: String,
            class: Option<u8>,
        }

        #[event]
        pub(in super::super) struct Departure;

        #[activity(name = "books")]
        pub(in super::super) async fn reserve_seat(trip: Trip) -> duroxide::Result<String> {
            Ok(format!("to {} in class {}", trip.to, trip.class.unwrap_or(2)))
        }

        #[orchestration(name = "travels")]
        pub(in super::super) async fn journey(ctx: OrchestrationContext, trip: Trip) -> duroxide::Result<String> {
            let ticket = reserve_seat::call(&ctx, trip).await?;
            ctx.event::<Departure>().await;
            Ok(ticket)
        }
    }
}

#[tokio::test]
async fn renamed_functions_and_inputs_with_a_new_field_replay() {
    use today::journeys::{Departure, journey, reserve_seat};

    let provider = MemoryProvider::new();
    let activities = || Registry::empty().with_activity::<reserve_seat>();
    let before = node(&provider, activities().with_orchestration::<Travels>()).await;
    let handle = before.client().start("travels", "trip", &OldTrip { to: "Rome".to_owned() }).await.unwrap();
    until_events(&handle, 4).await;
    before.shutdown().await.unwrap();
    let after = node(&provider, activities().with_orchestration::<journey>()).await;
    let handle = journey::handle(&after.client(), "trip");
    handle.raise(Departure).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "to Rome in class 2");
    assert_eq!(handle.history().await.unwrap().len(), 6, "the newer build continued the history");
}

#[tokio::test]
async fn another_build_claims_waiting_and_unstarted_instances() {
    let provider = MemoryProvider::new();
    let build = async |id: &str| {
        let builder = Runtime::builder().provider(signalling(provider.clone())).registry(old()).build_id(id);
        builder.start().await.unwrap()
    };
    let first = build("1").await;
    let waiting = first.client().start("step", "waiting", &Vec::<u64>::new()).await.unwrap();
    until_events(&waiting, 2).await;
    let client = Client::new(provider.clone());
    provider.kill(client.nodes().await.unwrap()[0].epoch);
    drop(first);
    let new = client.start("step", "new", &Vec::<u64>::new()).await.unwrap();
    let second = build("2").await;
    for handle in [waiting, new] {
        let handle = second.client().handle(handle.id().unwrap());
        handle.raise(Next { version: None }).await.unwrap();
        assert_eq!(handle.result_as::<Vec<u64>, duroxide::Error>().await.unwrap(), [1]);
    }
}
