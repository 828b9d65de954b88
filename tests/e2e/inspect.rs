//! Parts of histories, and families, as a dashboard reads them.

use std::time::Duration;

use duroxide::ClosePolicy;
use duroxide::client::{EventList, EventView, Tree, TreeLimits};
use duroxide::history::EventKind;
use duroxide::id::EventId;
use duroxide::prelude::*;
use duroxide::provider::{HistoryQuery, InstanceStatus};
use duroxide::testing::TestRuntime;

#[event]
struct Long {
    text: String,
}

#[orchestration]
async fn reads_long_events(ctx: OrchestrationContext, count: u32) -> duroxide::Result<()> {
    for _ in 0..count {
        ctx.event::<Long>().await;
    }
    Ok(())
}

#[tokio::test]
async fn history_is_read_from_either_end_with_previews() {
    let test = crate::started().await;
    let handle = reads_long_events::start(&test.client(), "long", 40).await.unwrap();
    for n in 0..40 {
        // Characters of two bytes, of which a preview may cut one.
        handle.raise(Long { text: format!("{n} {}", "ü".repeat(3000)) }).await.unwrap();
    }
    handle.result().await.unwrap();
    let whole = handle.history().await.unwrap();
    let ids = |list: &EventList| list.events.iter().map(|event| event.id).collect::<Vec<_>>();
    let all: Vec<_> = whole.iter().map(|event| event.id).collect();

    let last = handle.events(HistoryQuery::last(5).preview(20)).await.unwrap();
    assert_eq!((ids(&last), last.more), (all[all.len() - 5..].to_vec(), true));
    let before = handle.events(HistoryQuery::before(last.events[0].id, 7)).await.unwrap();
    assert_eq!(ids(&before), all[all.len() - 12..all.len() - 5]);
    let first = handle.events(HistoryQuery::first(1000).preview(10)).await.unwrap();
    assert_eq!((ids(&first), first.more), (all.clone(), false));
    let after = handle.events(HistoryQuery::after(EventId(all.len() as u64 - 2), 9)).await.unwrap();
    assert_eq!((ids(&after), after.more), (all[all.len() - 2..].to_vec(), false));
    for (view, event) in first.events.iter().zip(&whole) {
        assert_eq!((view.kind.as_ref().unwrap(), view.time, &view.at), (&event.kind, event.time, &event.at));
        let text = event.payload.to_string();
        assert_eq!(view.length, text.len());
        assert!(text.starts_with(&view.value) && view.value.len() <= 10, "{}", view.value);
        assert_eq!(view.is_cut(), text.len() > 10);
    }
    let raised = whole.iter().find(|event| event.payload.len() > 6000).unwrap();
    let one = handle.events(HistoryQuery::after(EventId(raised.id.0 - 1), 1).preview(usize::MAX)).await.unwrap();
    let EventView { value, .. } = &one.events[0];
    assert_eq!(*value, raised.payload.to_string());
    let most = handle.events(HistoryQuery::first(usize::MAX).preview(usize::MAX)).await.unwrap();
    assert!(most.events.iter().map(|event| event.value.len()).sum::<usize>() <= HistoryQuery::MAX_BYTES);
    assert!(most.events.len() <= HistoryQuery::MAX_EVENTS);
    assert!(matches!(first.events[0].kind, Ok(EventKind::Input(_))));
    assert!(handle.events_of(7, HistoryQuery::last(5)).await.unwrap().events.is_empty());
}

#[orchestration]
async fn family_member(ctx: OrchestrationContext, below: Vec<u32>) -> duroxide::Result<()> {
    let (count, rest) = below.split_first().map_or((0, &[][..]), |(count, rest)| (*count, rest));
    let children: Vec<_> = (0..count).map(|_| family_member::call(&ctx, rest.to_vec()).start()).collect();
    for child in children {
        child.await?;
    }
    ctx.sleep(days(1)).await;
    Ok(())
}

fn size(tree: &Tree) -> usize {
    1 + tree.children.iter().map(size).sum::<usize>()
}

#[tokio::test]
async fn tree_is_bounded_and_counts_the_rest() {
    let test = crate::started().await;
    let client = test.client();
    let handle = family_member::start(&client, "family", vec![30, 2]).await.unwrap();
    test.sleep(Duration::ZERO).await;
    let tree = client.tree("family", TreeLimits { depth: 3, width: 100, instances: 1000 }).await.unwrap();
    assert_eq!((size(&tree), tree.is_cut), (1 + 30 + 60, false));
    let tree = client.tree("family", TreeLimits { depth: 1, width: 10, instances: 1000 }).await.unwrap();
    assert_eq!((tree.children.len(), tree.is_cut), (10, true));
    assert_eq!(tree.counts.iter().map(|(_, count)| count).sum::<u64>(), 30);
    assert!(tree.children.iter().all(|child| child.children.is_empty() && child.is_cut));
    let tree = client.tree("family", TreeLimits { depth: 9, width: 100, instances: 40 }).await.unwrap();
    assert_eq!((size(&tree), tree.is_cut), (40, true));
    handle.result().await.unwrap();
    let tree = client.tree("family", TreeLimits::default()).await.unwrap();
    assert_eq!(tree.counts, [(InstanceStatus::Completed, 30)]);
    assert!(client.tree("none", TreeLimits::default()).await.unwrap_err().is_not_found());
}

/// Ends as its id says.
#[orchestration]
async fn family_fate(ctx: OrchestrationContext, fate: String) -> duroxide::Result<()> {
    match fate.as_str() {
        "completed" => Ok(()),
        "failed" => Err(duroxide::Error::new("bad luck")),
        _ => {
            ctx.event::<Long>().await;
            Ok(())
        }
    }
}

const FATES: [&str; 6] = ["completed", "failed", "running", "suspended", "cancelled", "terminated"];

#[orchestration]
async fn family_of_fates(ctx: OrchestrationContext, prefix: String) -> duroxide::Result<()> {
    let child = |fate: &str| family_fate::call(&ctx, fate.to_owned()).id(format!("{prefix}-{fate}"));
    let children: Vec<_> = FATES.iter().map(|fate| child(fate).on_parent_close(ClosePolicy::Abandon).start()).collect();
    // The children have begun when the event is awaited.
    ctx.event::<Long>().await;
    drop(children);
    Ok(())
}

/// Starts a family whose children have all statuses.
async fn fates(test: &TestRuntime, parent: &str, prefix: &str) {
    let client = test.client();
    family_of_fates::start(&client, parent, prefix.to_owned()).await.unwrap();
    let child = |fate: &str| client.handle(format!("{prefix}-{fate}"));
    test.sleep(Duration::ZERO).await;
    child("suspended").suspend("held").await.unwrap();
    child("cancelled").cancel("no").await.unwrap();
    child("terminated").terminate("no").await.unwrap();
    for fate in ["completed", "failed", "cancelled", "terminated"] {
        assert_eq!(child(fate).wait().await.unwrap().as_str(), fate);
    }
}

fn children(tree: &Tree) -> Vec<&str> {
    tree.children.iter().map(|child| child.status.execution.instance.as_str()).collect()
}

#[tokio::test]
async fn tree_lists_children_by_their_need_for_attention() {
    let test = crate::started().await;
    let client = test.client();
    fates(&test, "fates", "one").await;
    let tree = client.tree("fates", TreeLimits::default()).await.unwrap();
    let counts: Vec<_> = InstanceStatus::ALL.into_iter().map(|status| (status, 1)).collect();
    assert_eq!((&tree.counts, tree.is_cut), (&counts, false));
    let listed = children(&tree);
    assert_eq!(listed[..2], ["one-suspended", "one-running"]);
    assert_eq!(listed[5..], ["one-completed"]);
    for width in 0..6 {
        let few = client.tree("fates", TreeLimits { width, ..TreeLimits::default() }).await.unwrap();
        assert_eq!((children(&few), few.is_cut), (listed[..width].to_vec(), true));
        assert_eq!(few.counts, counts, "those that are not listed are counted");
    }

    // Another instance has the id now. The abandoned children are not those of the new one.
    client.handle("fates").terminate("again").await.unwrap();
    client.handle("fates").delete().await.unwrap();
    fates(&test, "fates", "two").await;
    let tree = client.tree("fates", TreeLimits::default()).await.unwrap();
    let listed = children(&tree);
    assert_eq!(listed.len(), 6, "{listed:?}");
    assert!(listed.iter().all(|child| child.starts_with("two-")), "{listed:?}");
    assert_eq!(tree.counts, counts, "without the children of the earlier instance");
}
