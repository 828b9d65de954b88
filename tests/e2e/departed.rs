//! Code that no live node has: the node that had it last, and the recorded code of its build.

use duroxide::client::{Fact, WhyState};
use duroxide::prelude::*;
use duroxide::provider::{CodeKind, Departure};
use duroxide::{Client, Registry};

#[event(name = "departed-signal")]
struct Signal;

/// Waits for the signal.
///
/// This line is not recorded.
#[orchestration(name = "departed-order")]
async fn order(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.event::<Signal>().await;
    Ok(ship::call(&ctx).await?)
}

/// Ships the order.
#[activity(name = "departed-ship")]
async fn ship() -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "departed-other")]
async fn other(_: OrchestrationContext) -> duroxide::Result<()> {
    Ok(())
}

async fn node(path: &std::path::Path, build: &str, registry: Registry) -> Runtime {
    let registry = registry.with_orchestration::<other>();
    Runtime::builder().sqlite(path).registry(registry).build_id(build).start().await.unwrap()
}

async fn why(client: &Client, expected: &str, cause: Departure) {
    let why = client.why("order-17").await.unwrap();
    assert_eq!(why.state, WhyState::Unclaimed, "{why}");
    let last = why.facts.iter().find_map(|fact| match fact {
        Fact::LastServer { node, build, left_at, cause, .. } => Some((node, build, left_at, *cause)),
        _ => None,
    });
    let (node, build, left_at, found) = last.unwrap();
    assert!(
        why.text.ends_with(&format!(" {node} (build {build}) had it and left at {left_at} ({expected}).")),
        "{why}"
    );
    assert!(build.starts_with("first-"), "{build}");
    assert_eq!(found, cause);
}

#[tokio::test]
async fn unclaimed_work_names_the_node_that_had_its_code_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let all = || Registry::empty().with::<order>().with::<ship>();
    let first = node(&path, "first", all()).await;
    order::start(&first.client(), "order-17").await.unwrap();
    first.shutdown().await.unwrap();

    let second = node(&path, "second", Registry::empty()).await;
    let client = second.client();
    client.handle("order-17").raise(Signal).await.unwrap();
    why(&client, "it was shut down", Departure::Left).await;

    let builds = client.builds().await.unwrap();
    let members: Vec<_> = builds.iter().map(|build| (build.build.split_once('-').unwrap().0, build.members)).collect();
    assert_eq!(members, [("second", 1), ("first", 0)]);
    let entries = builds[1].code.entries.iter().map(|entry| {
        let place = entry.place.as_ref().unwrap().rsplit_once(':').unwrap();
        assert!(place.0.ends_with("departed.rs") && place.1.parse::<u32>().is_ok(), "{entry:?}");
        (entry.kind, entry.name.as_str(), entry.version.as_deref(), entry.doc.as_deref())
    });
    assert_eq!(
        entries.collect::<Vec<_>>(),
        [
            (CodeKind::Orchestration, "departed-order", Some("1.0.0"), Some("Waits for the signal.")),
            (CodeKind::Orchestration, "departed-other", Some("1.0.0"), None),
            (CodeKind::Activity, "departed-ship", None, Some("Ships the order.")),
        ]
    );
    let departed = client.departed_nodes(10).await.unwrap();
    assert_eq!(departed.len(), 1);
    let details = &departed[0].node.info.details;
    assert_eq!((details.process, details.host.is_some()), (Some(std::process::id()), true));
    assert!(details.started_at.is_some_and(|started| started <= departed[0].left_at));
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn events_of_a_build_are_recorded() {
    let runtime = crate::started().await;
    let builds = runtime.client().builds().await.unwrap();
    assert_eq!(builds.len(), 1);
    let events = builds[0].code.entries.iter().filter(|entry| entry.kind == CodeKind::Event);
    assert!(events.map(|event| &*event.name).any(|name| name == "departed-signal"));
}
