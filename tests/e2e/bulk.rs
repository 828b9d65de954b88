//! Actions on many instances.

use std::ops::ControlFlow;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duroxide::ErrorCode;
use duroxide::client::{BulkAction, BulkCall, BulkFailure, BulkPreview, CutPoint, Note};
use duroxide::prelude::*;
use duroxide::provider::{AuditQuery, Filter, MemoryProvider};

use super::started;

#[event(name = "bulk-go")]
struct Go {}

#[orchestration(name = "bulk-flow")]
async fn flow(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let Go {} = ctx.event().await;
    Ok(())
}

/// True once the gateway of [`charge`] works.
static GATEWAY: AtomicBool = AtomicBool::new(false);

#[activity(name = "bulk-charge")]
async fn charge(ctx: ActivityContext) -> duroxide::Result<()> {
    if GATEWAY.load(Ordering::Relaxed) || ctx.instance().as_str() == "bulk-kept" {
        Ok(())
    } else {
        Err(duroxide::Error::new("gateway 503"))
    }
}

#[orchestration(name = "bulk-checkout")]
async fn checkout(ctx: OrchestrationContext, pays: bool) -> duroxide::Result<()> {
    let Go {} = ctx.event().await;
    if pays {
        charge::call(&ctx).await?;
    }
    Ok(())
}

#[tokio::test]
async fn bulk_reset_repeats_the_first_failure_of_each() {
    let test = started().await;
    let client = test.client().with_note(Note::by("ana"));
    // The last two have not failed: one is completed, and one waits for its event.
    for (n, pays) in [true, true, true, false, true].into_iter().enumerate() {
        let handle = checkout::start(&client, format!("bulk-order-{n}"), pays).await.unwrap();
        if n < 4 {
            handle.raise(Go {}).await.unwrap();
            handle.wait().await.unwrap();
        } else {
            // Resumed, it has begun or will begin; either way, nothing has failed.
            handle.suspend("held").await.unwrap();
        }
    }
    flow::start(&client, "bulk-other").await.unwrap();
    GATEWAY.store(true, Ordering::Relaxed);
    let orders = || Filter { name: Some("bulk-checkout".to_owned()), ..Filter::default() };
    let reset = |to| client.bulk(orders(), BulkAction::Reset { to, keep_outcomes: false });
    let preview = reset(CutPoint::BeforeFirstFailure).preview().await.unwrap();
    let plans = preview.plans.iter().map(|plan| match plan {
        Ok(plan) => {
            let again = plan.activities.iter().map(|activity| (activity.name.as_str(), activity.is_certain));
            Ok((plan.execution.instance.as_str(), again.collect::<Vec<_>>()))
        }
        Err(error) => Err(error.code()),
    });
    let plans: Vec<_> = plans.collect();
    let again = |id| Ok((id, vec![("bulk-charge", true)]));
    let none = Err(ErrorCode::NoCutPoint);
    assert_eq!(plans, [none.clone(), none, again("bulk-order-2"), again("bulk-order-1"), again("bulk-order-0")]);
    let counted: u64 = preview.groups.groups.iter().map(|group| group.count).sum();
    assert_eq!(counted, 5, "the other one does not match");
    let numbers = async || {
        let list = client.list(&orders(), 9).await.unwrap();
        list.instances.into_iter().map(|status| status.execution.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, [1; 5], "a preview changes nothing");

    let report = reset(CutPoint::BeforeFirstFailure).run().await.unwrap();
    assert_eq!((report.done, report.skipped, report.failed), (3, 2, 0));
    for n in 0..3 {
        let order = client.handle(format!("bulk-order-{n}"));
        assert_eq!(order.wait().await.unwrap(), InstanceStatus::Completed);
    }
    assert_eq!(numbers().await, [1, 1, 2, 2, 2]);
    let entries = client.audit(&AuditQuery { batch: Some(report.batch), ..AuditQuery::default() }, 99).await.unwrap();
    let entries: Vec<_> = entries.entries.iter().map(|entry| entry.detail.clone().unwrap_or_default()).collect();
    let one = "to event 4, before the first failure";
    let whole = "reset (before the first failure) of instances with name bulk-checkout";
    assert_eq!(entries, ["reset: 3 done, 2 skipped, 0 failed", one, one, one, whole]);
    let report = reset(CutPoint::BeforeFirstFailure).run().await.unwrap();
    assert_eq!((report.done, report.skipped), (0, 5), "none has a failure left");

    // From the start, an event that was received is received again.
    let completed = Filter { statuses: vec![InstanceStatus::Completed], ..orders() };
    let start = BulkAction::Reset { to: CutPoint::Start, keep_outcomes: false };
    let report = client.bulk(completed, start).run().await.unwrap();
    assert_eq!((report.done, report.skipped, report.failed), (4, 0, 0));
    for n in 0..4 {
        let order = client.handle(format!("bulk-order-{n}"));
        assert_eq!(order.wait().await.unwrap(), InstanceStatus::Completed);
    }
    assert_eq!(client.handle("bulk-other").status().await.unwrap().execution.number, 1);
    test.shutdown().await.unwrap();
}

#[tokio::test]
async fn bulk_action_is_previewed_stopped_and_continued() {
    let test = started().await;
    let client = test.client().with_note(Note::by("ana"));
    for n in 0..6 {
        flow::start(&client, format!("bulk-{n}")).await.unwrap();
    }
    // Newest first: this one is reached in the second part, and skipped.
    client.handle("bulk-3").terminate("early").await.unwrap();
    let all = Filter { name: Some("bulk-flow".to_owned()), ..Filter::default() };
    let cancel =
        || -> BulkCall { client.bulk(all.clone(), BulkAction::Cancel { reason: "campaign".to_owned() }).rate(8) };
    let preview: BulkPreview = cancel().preview().await.unwrap();
    // The instances whose first turn is not committed yet have no version, and so another group.
    let of = |status| preview.groups.groups.iter().filter(move |group| group.key[0].as_deref() == Some(status));
    let count = |status| of(status).map(|group| group.count).sum::<u64>();
    assert_eq!((count("running"), count("terminated")), (5, 1), "{:?}", preview.groups);
    assert_eq!(preview.first.len(), 6);

    let first = cancel().run_with(|_| ControlFlow::Break(())).await.unwrap();
    assert_eq!((first.done, first.skipped, first.failed), (2, 0, 0));
    assert!(first.next.is_some());
    let mut parts = Vec::new();
    let rest = cancel().after(first.next).run_with(|report| {
        parts.push(report.done + report.skipped);
        ControlFlow::Continue(())
    });
    let begun = Instant::now();
    let rest = rest.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1) / 8, "the second page waits until the first action is paid for");
    assert_eq!((rest.done, rest.skipped, rest.next), (3, 1, None));
    assert_eq!(parts, [2, 4]);
    for n in [0, 1, 2, 4, 5] {
        assert_eq!(client.handle(format!("bulk-{n}")).wait().await.unwrap(), InstanceStatus::Cancelled);
    }

    let entries = client.audit(&AuditQuery { batch: Some(rest.batch), ..AuditQuery::default() }, 99).await.unwrap();
    let actions: Vec<_> = entries.entries.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["bulk", "cancel", "cancel", "cancel", "bulk"]);
    let details: Vec<_> = entries.entries.iter().map(|entry| entry.detail.clone().unwrap_or_default()).collect();
    assert_eq!(details[4], "cancel of instances with name bulk-flow");
    assert_eq!(details[0], "cancel: 3 done, 1 skipped, 0 failed");

    let deleted = client.bulk(all, BulkAction::Delete).run().await.unwrap();
    assert_eq!((deleted.done, deleted.skipped), (6, 0));
}

#[tokio::test]
async fn bulk_failure_of_one_instance_is_listed() {
    let test = started().await;
    let client = test.client();
    flow::start(&client, "bulk-bad").await.unwrap();
    let reason = "x".repeat(20_000);
    let report = client.bulk(Filter::default(), BulkAction::Cancel { reason }).run().await.unwrap();
    assert_eq!((report.done, report.failed, report.failures.len()), (0, 1, 1));
    let failure: &BulkFailure = &report.failures[0];
    assert_eq!(failure.instance.as_str(), "bulk-bad");
    assert_eq!(failure.error.code(), duroxide::ErrorCode::PayloadTooLarge);

    let until = client.now() + days(400);
    let pause = async || {
        let suspension = client.handle("bulk-bad").status().await.unwrap().suspension;
        suspension.and_then(|suspension| suspension.pause).map(|pause| pause.until)
    };
    let suspend = |until| BulkAction::Suspend { reason: "held".to_owned(), until };
    for (action, paused) in [
        (suspend(Some(until)), Some(Some(until))),
        (suspend(None), Some(None)),
        (BulkAction::Wake, Some(None)),
        (BulkAction::Resume, None),
    ] {
        let report = client.bulk(Filter::default(), action).run().await.unwrap();
        assert_eq!((report.done, pause().await), (1, paused));
    }
    let report =
        client.bulk(Filter::default(), BulkAction::Terminate { reason: "end".to_owned() }).run().await.unwrap();
    assert_eq!(report.done, 1);
}

#[tokio::test]
async fn bulk_reset_can_keep_outcomes() {
    let test = started().await;
    let client = test.client();
    let handle = checkout::start(&client, "bulk-kept", true).await.unwrap();
    handle.raise(Go {}).await.unwrap();
    handle.wait().await.unwrap();
    let kept = async |keep_outcomes| {
        let to = CutPoint::LastEvent(Some("bulk-go".to_owned()));
        let call = client.bulk(Filter::default(), BulkAction::Reset { to, keep_outcomes });
        let plan = call.preview().await.unwrap().plans.swap_remove(0).unwrap();
        assert_eq!(call.run().await.unwrap().done, 1);
        assert_eq!(handle.wait().await.unwrap(), InstanceStatus::Completed);
        (plan.activities.len(), plan.kept_outcomes.len())
    };
    assert_eq!(kept(true).await, (0, 1));
    assert_eq!(kept(false).await, (1, 0));
    test.shutdown().await.unwrap();
}

#[tokio::test]
async fn bulk_action_stops_while_the_storage_fails() {
    let provider = support::faulty(MemoryProvider::new());
    let client = Client::new(provider.clone()).with_retry_time(Duration::ZERO);
    for n in 0..3 {
        client.start("bulk-none", format!("bulk-{n}"), &()).await.unwrap();
    }
    provider.faults().always(support::Method::Submit, support::Fault::Before);
    let reason = || BulkAction::Cancel { reason: "campaign".to_owned() };
    let report = client.bulk(Filter::default(), reason()).run().await.unwrap();
    assert_eq!((report.done, report.failed, report.next), (0, 0, None), "no instance is to blame");
    assert!(report.stopped_by.is_some_and(|error| error.is_retryable()));
    provider.faults().heal();
    let report = client.bulk(Filter::default(), reason()).run().await.unwrap();
    assert_eq!((report.done, report.failed), (3, 0));
    assert!(report.stopped_by.is_none());

    let end = BulkAction::Terminate { reason: "end".to_owned() };
    assert_eq!(client.bulk(Filter::default(), end).run().await.unwrap().done, 3);
    let requests = provider.faults().begun(support::Method::Submit);
    let report = client.bulk(Filter::default(), reason()).run().await.unwrap();
    assert_eq!((report.done, report.skipped), (0, 3));
    assert_eq!(provider.faults().begun(support::Method::Submit), requests, "no request for what has ended");
}
