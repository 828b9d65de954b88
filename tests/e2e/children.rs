//! Child orchestrations and detached starts.

use duroxide::prelude::*;
use duroxide::provider::InstanceStatus;
use futures_util::stream::{FuturesUnordered, StreamExt};
use support::until_started;

#[orchestration]
async fn leaf(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    ctx.sleep(hours(1)).await;
    if n == 13 { Err(duroxide::Error::new("unlucky")) } else { Ok(n * 10) }
}

#[orchestration]
async fn family(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut sum = 0;
    for result in join_all((0..n).map(|i| leaf::call(&ctx, i))).await {
        sum += result.unwrap_or(1);
    }
    Ok(sum)
}

#[tokio::test]
async fn results_of_a_thousand_children_arrive() {
    let test = crate::started().await;
    let handle = family::start(&test.client(), "family", 1000).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 999 * 500 * 10 - 130 + 1);
}

#[orchestration]
async fn quick(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    drop(ctx);
    Ok(n)
}

#[orchestration]
async fn large_family(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    join_all((0..n).map(|i| quick::call(&ctx, i))).await.into_iter().map(|result| Ok(result?)).sum()
}

#[orchestration]
async fn unordered_family(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut children: FuturesUnordered<_> = (0..n).map(|i| quick::call(&ctx, i)).collect();
    let mut sum = 0;
    while let Some(result) = children.next().await {
        sum += result?;
    }
    Ok(sum)
}

#[tokio::test]
async fn fan_in_of_10_000_children_finishes() {
    let test = crate::started().await;
    for n in [1_000, 10_000] {
        let joined = large_family::start(&test.client(), format!("joined {n}"), n).await.unwrap();
        assert_eq!(joined.result().await.unwrap(), n * (n - 1) / 2);
        let unordered = unordered_family::start(&test.client(), format!("unordered {n}"), n).await.unwrap();
        assert_eq!(unordered.result().await.unwrap(), n * (n - 1) / 2);
    }
}

#[orchestration]
async fn named(ctx: OrchestrationContext) -> duroxide::Result<Vec<String>> {
    let first = leaf::call(&ctx, 1).id("taken").await;
    let second = leaf::call(&ctx, 2).id("free").await;
    let third = leaf::call(&ctx, 13).await;
    Ok(vec![format!("{first:?}"), format!("{second:?}"), format!("{:?}", third.map_err(|e| e.to_string()))])
}

#[tokio::test]
async fn taken_child_id_fails_the_call() {
    let test = crate::started().await;
    leaf::start(&test.client(), "taken", 5).await.unwrap();
    let handle = named::start(&test.client(), "named").await.unwrap();
    let results = handle.result().await.unwrap();
    assert!(results[0].contains("Rejected") && results[0].contains("taken"), "{results:?}");
    assert_eq!(results[1], "Ok(20)");
    assert!(results[2].contains("unlucky"), "{results:?}");
}

#[orchestration]
async fn panics_with_children(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let _cancelled = leaf::call(&ctx, 1).id("cancelled").start();
    let _terminated = leaf::call(&ctx, 2).id("terminated").on_parent_close(ClosePolicy::Terminate).start();
    let _abandoned = leaf::call(&ctx, 3).id("abandoned").on_parent_close(ClosePolicy::Abandon).start();
    let detached = leaf::call(&ctx, 4).id("detached").detached().await?;
    assert_eq!(detached.as_str(), "detached");
    panic!("the parent ends with its children open");
}

#[tokio::test]
async fn panicking_parent_applies_close_policies() {
    let test = crate::started().await;
    let handle = panics_with_children::start(&test.client(), "parent").await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Failed);
    for (id, status) in [
        ("cancelled", InstanceStatus::Cancelled),
        ("terminated", InstanceStatus::Terminated),
        ("abandoned", InstanceStatus::Completed),
        ("detached", InstanceStatus::Completed),
    ] {
        assert_eq!(leaf::handle(&test.client(), id).wait().await.unwrap(), status, "{id}");
    }
}

#[orchestration]
async fn waits_for_child(ctx: OrchestrationContext) -> duroxide::Result<String> {
    Ok(format!("{:?}", leaf::call(&ctx, 1).id("child").await))
}

#[tokio::test]
async fn terminated_or_cancelled_child_answers_its_parent() {
    for end in ["terminate", "cancel"] {
        let test = crate::started().await;
        let handle = waits_for_child::start(&test.client(), "parent").await.unwrap();
        let child = leaf::handle(&test.client(), "child");
        crate::settled(&test).await;
        if end == "cancel" { child.cancel("enough").await } else { child.terminate("enough").await }.unwrap();
        let expected = if end == "cancel" { "Cancelled" } else { "Terminated" };
        let result = handle.result().await.unwrap();
        assert!(result.contains(expected) && result.contains("enough"), "{result}");
    }
}

#[orchestration]
async fn panics_or_returns(ctx: OrchestrationContext, how: String) -> duroxide::Result<f64> {
    ctx.sleep(minutes(1)).await;
    match how.as_str() {
        "panics" => panic!("of the child"),
        "fails" => Err(duroxide::Error::new("no")),
        "returns an unrepresentable value" => Ok(f64::NAN),
        _ => Ok(1.5),
    }
}

#[orchestration]
async fn returns_child_outcome(ctx: OrchestrationContext, how: String) -> duroxide::Result<String> {
    let id = format!("child that {how}");
    let answer = if how == "cannot read its input" {
        ctx.call_orchestration::<f64>("panics_or_returns", &5).id(id).await.map_err(|e| e.to_string())
    } else {
        panics_or_returns::call(&ctx, how).id(id).await.map_err(|e| e.to_string())
    };
    Ok(format!("{answer:?}"))
}

#[tokio::test]
async fn child_answers_its_parent_on_every_end() {
    let test = crate::started().await;
    let client = test.client();
    for (how, expected) in [
        ("returns", "Ok(1.5)"),
        ("fails", "no"),
        ("panics", "of the child"),
        ("returns an unrepresentable value", "NaN"),
        ("cannot read its input", "operator"),
    ] {
        let parent = returns_child_outcome::start(&client, how, how.to_owned()).await.unwrap();
        if how == "cannot read its input" {
            let child = client.handle(format!("child that {how}"));
            until_started(&child).await;
            child.wait_for(|status| status.suspension.is_some()).await.unwrap();
            child.terminate("operator").await.unwrap();
            child.delete().await.unwrap();
        }
        let answer = parent.result().await.unwrap();
        assert!(answer.contains(expected), "{how}: {answer}");
    }
}

#[orchestration]
async fn waits_for_named_child(ctx: OrchestrationContext, name: String) -> duroxide::Result<u64> {
    Ok(leaf::call(&ctx, 1).id(format!("child of {name}")).await?)
}

#[tokio::test]
async fn parent_ended_by_a_client_closes_its_children() {
    let test = crate::started().await;
    let client = test.client();
    for end in ["cancelled", "terminated"] {
        let parent = waits_for_named_child::start(&client, end, end.to_owned()).await.unwrap();
        let child = leaf::handle(&client, format!("child of {end}"));
        crate::settled(&test).await;
        if end == "cancelled" { parent.cancel("end").await } else { parent.terminate("end").await }.unwrap();
        assert_eq!(child.wait().await.unwrap(), InstanceStatus::Cancelled, "{end}");
    }
}

#[event]
struct End;

const POLICIES: [ClosePolicy; 3] = [ClosePolicy::Cancel, ClosePolicy::Terminate, ClosePolicy::Abandon];

/// Starts a child with each policy, and one with the default; then ends in the requested way.
#[orchestration]
async fn ends(ctx: OrchestrationContext, how: String) -> duroxide::Result<()> {
    if how.is_empty() {
        return Ok(());
    }
    let child = |policy| leaf::call(&ctx, 1).id(format!("{how}: {policy:?}")).on_parent_close(policy).start();
    let children = (POLICIES.map(child), leaf::call(&ctx, 1).id(format!("{how}: default")).start());
    if how == "awaits its cancellation" {
        ctx.cancelled().await;
        return Ok(());
    }
    ctx.event::<End>().await;
    match how.as_str() {
        "panics" => panic!("with its children open"),
        "fails" => Err(duroxide::Error::new("with its children open")),
        "continues as new" => ends::continue_as_new(&ctx, String::new()).await,
        "drops its calls" => {
            drop(children);
            ctx.sleep(days(1)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

#[tokio::test]
async fn close_policies_apply_on_every_end_of_a_parent() {
    let test = crate::started().await;
    let client = test.client();
    for how in [
        "returns",
        "fails",
        "panics",
        "continues as new",
        "drops its calls",
        "awaits its cancellation",
        "is cancelled",
        "is terminated",
        "is terminated while it is suspended",
    ] {
        let parent = ends::start(&client, how, how.to_owned()).await.unwrap();
        let policies = POLICIES.iter().map(|policy| format!("{policy:?}")).chain(["default".to_owned()]);
        let children: Vec<_> =
            policies.map(|policy| (leaf::handle(&client, format!("{how}: {policy}")), policy)).collect();
        for (child, _) in &children {
            until_started(child).await;
        }
        match how {
            "awaits its cancellation" | "is cancelled" => parent.cancel("").await.unwrap(),
            "is terminated" => parent.terminate("").await.unwrap(),
            "is terminated while it is suspended" => {
                parent.raise_named("End", &"of another type").await.unwrap();
                parent.wait_for(|status| status.suspension.is_some()).await.unwrap();
                parent.terminate("").await.unwrap();
            }
            _ => parent.raise(End).await.unwrap(),
        }
        for (child, policy) in children {
            let expected = match policy.as_str() {
                "Terminate" => InstanceStatus::Terminated,
                "Abandon" => InstanceStatus::Completed,
                _ => InstanceStatus::Cancelled,
            };
            assert_eq!(child.wait().await.unwrap(), expected, "{how}: {policy}");
        }
    }
}

#[orchestration]
async fn starts_and_ends(ctx: OrchestrationContext, how: String) -> duroxide::Result<u32> {
    if how == "is cancelled" {
        ctx.cancelled().await;
    }
    let _confirmation = leaf::call(&ctx, 1).id(format!("detached by a parent that {how}")).detached().start();
    let left = leaf::call(&ctx, 2).id(format!("abandoned by a parent that {how}"));
    let _left = left.on_parent_close(ClosePolicy::Abandon).start();
    match how.as_str() {
        "panics" => panic!("at once"),
        "fails" => Err(duroxide::Error::new("at once")),
        "continues" => starts_and_ends::continue_as_new(&ctx, "returns".to_owned()).await,
        _ => Ok(1),
    }
}

#[tokio::test]
async fn children_started_in_the_last_turn_run() {
    let test = crate::started().await;
    let client = test.client();
    for how in ["panics", "fails", "is cancelled", "continues"] {
        let handle = starts_and_ends::start(&client, how, how.to_owned()).await.unwrap();
        if how == "is cancelled" {
            handle.cancel("").await.unwrap();
        }
        handle.wait().await.unwrap();
    }
    // The instance that continues as new returns in its next execution.
    for how in ["panics", "fails", "is cancelled", "continues", "returns"] {
        let started = leaf::handle(&client, format!("detached by a parent that {how}"));
        assert_eq!(started.result().await.unwrap(), 10, "{how}");
        let left = leaf::handle(&client, format!("abandoned by a parent that {how}"));
        assert_eq!(left.result().await.unwrap(), 20, "{how}");
    }
}

#[orchestration]
async fn uses_an_id_twice(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let _detached = leaf::call(&ctx, 1).id("wanted twice").detached().start();
    let refused = leaf::call(&ctx, 2).id("wanted twice").start();
    ctx.event::<End>().await;
    drop(refused);
    ctx.event::<End>().await;
    Ok(())
}

#[tokio::test]
async fn dropped_child_call_does_not_cancel_another_with_its_id() {
    let test = crate::started().await;
    let handle = uses_an_id_twice::start(&test.client(), "wants").delay(hours(1)).await.unwrap();
    // Both arrive before the delayed start, so the parent does everything in one turn.
    handle.raise(End).await.unwrap();
    handle.raise(End).await.unwrap();
    handle.result().await.unwrap();
    assert_eq!(leaf::handle(&test.client(), "wanted twice").result().await.unwrap(), 10);
}

#[event]
struct Finish;

#[orchestration]
async fn abandons_a_child(ctx: OrchestrationContext, leave: bool) -> duroxide::Result<u64> {
    let child = leaf::call(&ctx, u64::from(leave)).on_parent_close(ClosePolicy::Abandon).start();
    if leave {
        ctx.event::<Finish>().await;
        return Ok(0);
    }
    Ok(child.await?)
}

#[tokio::test]
async fn outcome_for_a_replaced_parent_is_dropped() {
    let test = crate::started().await;
    let old = abandons_a_child::start(&test.client(), "reused", true).await.unwrap();
    old.raise(Finish).await.unwrap();
    assert_eq!(old.result().await.unwrap(), 0);
    // The child of the old instance still sleeps, and will answer a parent with this id.
    let new = abandons_a_child::start(&test.client(), "reused", false).if_exists(IfExists::Replace).await.unwrap();
    assert_eq!(new.result().await.unwrap(), 0, "the outcome is that of the new instance's own child: 0 x 10");
    assert_eq!(new.status().await.unwrap().execution.number, 1);
}
